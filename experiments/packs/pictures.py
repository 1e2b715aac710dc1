"""Draw one little picture: a textured thing in front of a place, photographed carelessly."""

import numpy as np
from numpy.typing import NDArray
from pens import Array, Random, colour, disk, turn
from places import PLACES
from things import SHAPES, TEXTURES

SIDE, FINER = 40, 3  # pixels of a picture; samples per pixel along each axis, for smooth edges

# hue in turns, its spread, saturation and value of a thing's colours
MOODS = {
    "warm": (0.04, 0.08, 0.85, 0.95),
    "cool": (0.58, 0.10, 0.75, 0.85),
    "pastel": (0.0, 0.5, 0.35, 1.0),
    "dark": (0.75, 0.5, 0.5, 0.45),
}


def draw(random: Random, *, shape: str, texture: str, mood: str, place: str) -> NDArray[np.uint8]:
    """One picture, (SIDE, SIDE, 3) uint8 RGB; ``random`` decides all that the four names leave open."""
    axis = (np.arange(SIDE * FINER) + 0.5) / (SIDE * FINER) * 2 - 1
    x, y = np.meshgrid(axis, -axis)
    canvas = PLACES[place](random, *aim(random, x, y))
    put_thing(random, canvas, x, y, shape, texture, mood)
    if random.random() < 0.2:
        hide(random, canvas, x, y)
    expose(random, canvas, x, y)
    pixels = canvas.reshape(SIDE, FINER, SIDE, FINER, 3).mean(axis=(1, 3))
    pixels += random.normal(0, random.uniform(0, 0.02), pixels.shape)
    return np.asarray((pixels.clip(0, 1) * 255).round(), dtype=np.uint8)


def aim(random: Random, x: Array, y: Array) -> tuple[Array, Array]:
    """The place's coordinates: the camera is tilted, and nearer or farther."""
    nearer = random.uniform(0.8, 1.2)
    x, y = turn(x, y, random.normal(0, 0.15))
    return x / nearer + random.uniform(-0.2, 0.2), y / nearer + random.uniform(-0.2, 0.2)


def put_thing(random: Random, canvas: Array, x: Array, y: Array, shape: str, texture: str, mood: str) -> None:
    """Paint the thing onto the canvas: off the centre, turned, mirrored, stretched and bent."""
    size, stretch = random.uniform(0.75, 0.95), random.uniform(0.9, 1.1)
    u, v = x - random.uniform(-0.12, 0.12), y - random.uniform(-0.12, 0.12)
    u, v = turn(u, v, random.normal(0, 0.12))
    marks = TEXTURES[texture](random, u, v)
    u, v = u * random.choice([-1, 1]) / (size * stretch), v * stretch / size
    body, details = SHAPES[shape](u + 0.04 * np.sin(3 * v + random.uniform(0, 6)), v)
    mark, ground, detail = _paints(random, mood)
    shade = (1 + 0.15 * v).clip(0.8, 1.15)[..., None]
    canvas[body] = (np.where(marks[..., None], mark, ground) * shade)[body]
    canvas[details] = detail


def _paints(random: Random, mood: str) -> tuple[Array, Array, Array]:
    """The colours of marks, ground and details: marks and ground share the mood and differ in lightness."""
    hue, spread, saturation, value = MOODS[mood]
    paints = [colour(hue + random.uniform(-spread, spread), saturation, value) for _ in range(2)]
    light, heavy = random.uniform(0.95, 1.2), random.uniform(0.35, 0.6)
    first, second = (light, heavy) if random.random() < 0.5 else (heavy, light)
    return paints[0] * first, paints[1] * second, colour(hue + 0.5, 0.5, random.choice([0.1, 0.95]))


def hide(random: Random, canvas: Array, x: Array, y: Array) -> None:
    """Something close to the camera, a bar or a blob of any colour."""
    paint = colour(random.random(), random.uniform(0, 0.6), random.uniform(0.2, 0.9))
    if random.random() < 0.5:
        across, _ = turn(x, y, random.uniform(0, np.pi))
        canvas[np.abs(across - random.uniform(-0.7, 0.7)) < random.uniform(0.06, 0.14)] = paint
    else:
        at = random.uniform(-0.9, 0.9, 2)
        canvas[disk(x, y, at[0], at[1], random.uniform(0.2, 0.4), random.uniform(0.2, 0.4))] = paint


def expose(random: Random, canvas: Array, x: Array, y: Array) -> None:
    """Light from one side, white balance, exposure and haze, in place."""
    across, _ = turn(x, y, random.uniform(0, 2 * np.pi))
    canvas *= (1 + random.uniform(0, 0.2) * across)[..., None]
    canvas *= random.uniform(0.9, 1.1, 3) * random.uniform(0.75, 1.15)
    canvas += random.uniform(0, 0.2) * (0.6 - canvas)
