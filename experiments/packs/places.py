"""The eight places behind the demo's things; two places of a kind share their colours, not their layout."""

from collections.abc import Callable

import numpy as np
from pens import Array, Random, box, colour, disk, layers


def _sky(random: Random) -> Array:
    """Blue, grey or evening."""
    return colour(random.choice([0.55, 0.6, 0.06]), random.uniform(0.05, 0.45), random.uniform(0.7, 1))


def _water_and_land(random: Random) -> tuple[Array, Array]:
    water = colour(random.uniform(0.48, 0.62), random.uniform(0.4, 0.8), random.uniform(0.4, 0.85))
    return water, colour(random.uniform(0.08, 0.25), random.uniform(0.25, 0.55), random.uniform(0.5, 0.9))


def _beach(random: Random, x: Array, y: Array) -> Array:
    water, land = _water_and_land(random)
    horizon = random.uniform(0, 0.6)
    shore = horizon - random.uniform(0.35, 0.7) + random.uniform(-0.4, 0.4) * x + 0.06 * np.sin(7 * x)
    return layers(
        _sky(random), (y < horizon, water), (y < shore + 0.08, colour(0.5, 0.05, 0.95)), (y < shore, land)
    )


def _lake(random: Random, x: Array, y: Array) -> Array:
    water, land = _water_and_land(random)
    hills = random.uniform(0.2, 0.6) + 0.15 * np.sin(random.uniform(2, 5) * x + random.uniform(0, 6))
    middle, width, height = random.uniform(-0.4, 0.4), random.uniform(0.6, 1.1), random.uniform(0.25, 0.45)
    pond = disk(x, y, middle, random.uniform(-0.6, -0.2), width, height)
    return layers(_sky(random), (y < hills, land * 0.8), (y < hills - 0.2, land), (pond, water))


def _green(random: Random) -> Array:
    return colour(random.uniform(0.2, 0.4), random.uniform(0.4, 0.7), random.uniform(0.35, 0.75))


def _forest(random: Random, x: Array, y: Array) -> Array:
    step, lean = random.uniform(0.25, 0.45), random.uniform(-0.15, 0.15)
    stem = (x + lean * y) / step + random.random()
    trunks = stem % 1 < 0.3 + 0.15 * np.sin(9 * np.floor(stem))
    brown = colour(random.uniform(0.05, 0.12), 0.5, random.uniform(0.2, 0.5))
    floor = y < random.uniform(-0.9, -0.5)
    return layers(_green(random), (trunks, brown), (floor, _green(random) * 0.7))


def _meadow(random: Random, x: Array, y: Array) -> Array:
    hill = random.uniform(0, 0.6) + random.uniform(-0.3, 0.3) * x - random.uniform(0, 0.3) * x**2
    grass, petal = _green(random), colour(random.random(), 0.6, 0.95)
    depth = 2 + 2 * (hill - y).clip(0)  # flowers are larger near the camera
    column, row = x * 12 / depth + random.random(), y * 12 / depth + random.random()
    flowers = (np.hypot(column % 1 - 0.5, row % 1 - 0.5) < 0.22) & (y < hill - 0.1)
    return layers(_sky(random), (y < hill, grass), (flowers, petal))


def _stone(random: Random) -> Array:
    return colour(random.uniform(0, 0.1), random.uniform(0.05, 0.5), random.uniform(0.35, 0.75))


def _skyline(random: Random, x: Array, y: Array) -> Array:
    width = random.uniform(0.35, 0.55)
    house = np.floor(x / width + random.random()).astype(np.int64) % 8
    tops, shades = random.uniform(-0.1, 0.9, 8)[house], random.uniform(0.6, 1.1, 8)[house]
    inside, windows = y < tops, (x * 9 % 1 < 0.45) & (y * 7 % 1 < 0.45) & (y < tops - 0.12)
    lit = colour(0.14, 0.5, random.choice([0.2, 0.95]))
    wall = _stone(random) * shades[inside][:, None]
    return layers(_sky(random), (inside, wall), (windows, lit))


def _bricks(random: Random, x: Array, y: Array) -> Array:
    height = random.uniform(0.18, 0.3)
    row = y / height + random.random()
    column = x / (2.2 * height) + 0.5 * (np.floor(row) % 2) + random.random()
    joints = (row % 1 < 0.2) | (column % 1 < 0.1)
    return layers(_stone(random), (joints, _stone(random) * random.choice([0.6, 1.3])))


def _ridge(random: Random) -> tuple[Array, Array]:
    """The colours of the lit and of the dark side of bare ground."""
    lit = colour(random.uniform(0.04, 0.14), random.uniform(0.1, 0.5), random.uniform(0.65, 0.95))
    return lit, lit * random.uniform(0.5, 0.75)


def _mountains(random: Random, x: Array, y: Array) -> Array:
    lit, dark = _ridge(random)
    pieces = []
    for _ in range(3):
        tip, top, half = random.uniform(-1, 1), random.uniform(0.2, 0.9), random.uniform(0.5, 0.9)
        slope = top - np.abs(x - tip) / half
        snow = (y < slope) & (y > top - 0.3 - 0.05 * np.sin(20 * x))
        pieces += [((y < slope) & (x < tip), lit), ((y < slope) & (x >= tip), dark), (snow, colour(0.6, 0.05, 1))]
    return layers(_sky(random), *pieces, (box(x, y, -1, 1, -1, random.uniform(-0.8, -0.5)), dark))


def _dunes(random: Random, x: Array, y: Array) -> Array:
    lit, dark = _ridge(random)
    pieces = []
    for level in (0.5, 0.05, -0.45):
        wave = random.uniform(2, 4) * x + random.uniform(0, 6)
        crest = level + random.uniform(-0.15, 0.15) + 0.15 * np.sin(wave)
        lee = (y < crest) & (y > crest + 0.4 * np.cos(wave))  # the side that falls to the right
        pieces += [(y < crest, lit), (lee, dark)]
    return layers(_sky(random), *pieces)


PLACES: dict[str, Callable[[Random, Array, Array], Array]] = {
    "beach": _beach,
    "lake": _lake,
    "forest": _forest,
    "meadow": _meadow,
    "skyline": _skyline,
    "bricks": _bricks,
    "mountains": _mountains,
    "dunes": _dunes,
}
