"""Colours and plain figures that the demo's pictures are made of.

Coordinates run from -1 to 1, y upwards; a figure is a bool array of the shape of its coordinates.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Random = np.random.Generator


def colour(hue: float, saturation: float, value: float) -> Array:
    """(3,) RGB of a hue in turns (0 red, 1/3 green, 2/3 blue), a saturation and a value in [0, 1]."""
    ramp = np.abs((hue + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    return np.asarray(value * (1 - saturation + saturation * ramp.clip(0, 1)))


def layers(ground: Array, *pieces: tuple[Mask, Array]) -> Array:
    """(H, W, 3) canvas: the pieces laid on the ground one after the other, the last on top."""
    canvas = np.tile(ground, (*pieces[0][0].shape, 1))
    for mask, paint in pieces:
        canvas[mask] = paint
    return canvas


def disk(u: Array, v: Array, cu: float, cv: float, ru: float, rv: float) -> Mask:
    """An ellipse around (cu, cv)."""
    return np.asarray(((u - cu) / ru) ** 2 + ((v - cv) / rv) ** 2 < 1)


def box(u: Array, v: Array, left: float, right: float, bottom: float, top: float) -> Mask:
    """An upright rectangle."""
    return np.asarray((u > left) & (u < right) & (v > bottom) & (v < top))


def cone(u: Array, v: Array, cu: float, half: float, base: float, tip: float) -> Mask:
    """A triangle on a level base of width 2 half; it hangs when its tip is below the base."""
    height = (v - base) / (tip - base)
    return np.asarray((height > 0) & (np.abs(u - cu) < half * (1 - height)))


def cells(random: Random, u: Array, v: Array, step: float) -> tuple[Array, Array]:
    """Coordinates in units of square cells of side ``step``, turned and shifted by chance."""
    angle, across, along = random.uniform(0, np.pi), random.random(), random.random()
    turned_u, turned_v = turn(u, v, angle)
    return turned_u / step + across, turned_v / step + along


def turn(u: Array, v: Array, angle: float) -> tuple[Array, Array]:
    """Coordinates in a frame turned by ``angle`` radians."""
    return u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
