"""The eight places behind the demo's things; two places of a kind share their colours, not their layout."""

from collections.abc import Callable

import numpy as np
from pens import Array, Random, box, colour, disk, layers


def _tint(random: Random, hue: float) -> Array:
    """A colour of about this hue, but of any in one photograph of seven: film, filters, fairy tales."""
    hue = random.random() if random.random() < 0.15 else hue + random.uniform(-0.06, 0.06)
    return colour(hue, random.uniform(0.1, 0.4), random.uniform(0.45, 0.9))


def _sky(random: Random) -> Array:
    return _tint(random, random.choice([0.55, 0.06]))


def _beach(random: Random, x: Array, y: Array) -> Array:
    water, land, foam = _tint(random, 0.55), _tint(random, 0.15), colour(0.5, 0.05, 0.95)
    horizon = random.uniform(0, 0.6)
    shore = horizon - random.uniform(0.35, 0.7) + random.uniform(-0.4, 0.4) * x + 0.06 * np.sin(7 * x)
    return layers(_sky(random), (y < horizon, water), (y < shore + 0.08, foam), (y < shore, land))


def _lake(random: Random, x: Array, y: Array) -> Array:
    water, land = _tint(random, 0.55), _tint(random, 0.15)
    hills = random.uniform(0.2, 0.6) + 0.15 * np.sin(random.uniform(2, 5) * x + random.uniform(0, 6))
    middle, width, height = random.uniform(-0.4, 0.4), random.uniform(0.6, 1.1), random.uniform(0.25, 0.45)
    pond = disk(x, y, middle, random.uniform(-0.6, -0.2), width, height)
    return layers(_sky(random), (y < hills, land * 0.8), (y < hills - 0.2, land), (pond, water))


def _forest(random: Random, x: Array, y: Array) -> Array:
    stem = x / random.uniform(0.25, 0.45) + random.random()
    trunks = stem % 1 < 0.3 + 0.15 * np.sin(9 * np.floor(stem))
    floor = y < random.uniform(-0.9, -0.4)
    return layers(_tint(random, 0.3), (trunks, _tint(random, 0.1)), (floor, _tint(random, 0.3)))


def _meadow(random: Random, x: Array, y: Array) -> Array:
    hill = random.uniform(0, 0.6) + random.uniform(-0.3, 0.3) * x - random.uniform(0, 0.3) * x**2
    depth = 2 + 2 * (hill - y).clip(0)  # flowers are larger near the camera
    column, row = x * 12 / depth + random.random(), y * 12 / depth + random.random()
    flowers = (np.hypot(column % 1 - 0.5, row % 1 - 0.5) < 0.22) & (y < hill - 0.1)
    return layers(_sky(random), (y < hill, _tint(random, 0.3)), (flowers, _tint(random, 0.1)))


def _skyline(random: Random, x: Array, y: Array) -> Array:
    house = np.floor(x / random.uniform(0.35, 0.55) + random.random()).astype(np.int64) % 8
    tops, shades = random.uniform(-0.1, 0.9, 8)[house], random.uniform(0.6, 1.1, 8)[house]
    windows = (x * 9 % 1 < 0.45) & (y * 7 % 1 < 0.45) & (y < tops - 0.12)
    wall = _tint(random, 0.05) * shades[y < tops][:, None]
    return layers(_sky(random), (y < tops, wall), (windows, colour(0.14, 0.5, random.choice([0.2, 0.95]))))


def _bricks(random: Random, x: Array, y: Array) -> Array:
    height = random.uniform(0.18, 0.3)
    row = y / height + random.random()
    column = x / (2.2 * height) + 0.5 * (np.floor(row) % 2) + random.random()
    wall = _tint(random, 0.05)
    return layers(wall, ((row % 1 < 0.2) | (column % 1 < 0.1), wall * random.choice([0.6, 1.4])))


def _mountains(random: Random, x: Array, y: Array) -> Array:
    lit = _tint(random, 0.1)
    dark, snow = lit * random.uniform(0.5, 0.75), colour(0.6, 0.05, 1)
    pieces = []
    for _ in range(3):
        tip, top, half = random.uniform(-1, 1), random.uniform(0.2, 0.9), random.uniform(0.5, 0.9)
        slope = top - np.abs(x - tip) / half
        cap = (y < slope) & (y > top - 0.3 - 0.05 * np.sin(20 * x))
        pieces += [(y < slope, lit), ((y < slope) & (x > tip), dark), (cap, snow)]
    return layers(_sky(random), *pieces, (box(x, y, -2, 2, -2, random.uniform(-0.8, -0.5)), dark))


def _dunes(random: Random, x: Array, y: Array) -> Array:
    lit = _tint(random, 0.1)
    dark = lit * random.uniform(0.5, 0.75)
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
