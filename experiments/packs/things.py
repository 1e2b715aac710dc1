"""The eight shapes and three surface textures of the demo's things.

A shape maps coordinates in the thing's own frame, which it about fills, to its body (which carries the
texture) and its details. A texture maps coordinates to its marks.
"""

from collections.abc import Callable

import numpy as np
from pens import Array, Mask, Random, box, cells, cone, disk, turn


def _cat(u: Array, v: Array) -> tuple[Mask, Mask]:
    ears = cone(u, v, -0.5, 0.3, 0.2, 0.95) | cone(u, v, 0.5, 0.3, 0.2, 0.95)
    eyes = disk(u, v, -0.3, 0, 0.14, 0.17) | disk(u, v, 0.3, 0, 0.14, 0.17)
    return disk(u, v, 0, -0.1, 0.8, 0.7) | ears, eyes | cone(u, v, 0, 0.16, -0.25, -0.45)


def _fish(u: Array, v: Array) -> tuple[Mask, Mask]:
    tail = (np.abs(v) < (-u - 0.25) * 0.8) & (u > -1)
    body = disk(u, v, 0.2, 0, 0.8, 0.5) | cone(u, v, 0.1, 0.35, 0.35, 0.8)
    return body | tail, disk(u, v, 0.65, 0.12, 0.1, 0.1)


def _flower(u: Array, v: Array) -> tuple[Mask, Mask]:
    petals = np.hypot(u, v) < 0.74 + 0.22 * np.cos(5 * np.arctan2(v, u))
    return np.asarray(petals), disk(u, v, 0, 0, 0.24, 0.24)


def _tree(u: Array, v: Array) -> tuple[Mask, Mask]:
    crown = disk(u, v, -0.4, 0.15, 0.45, 0.45) | disk(u, v, 0.4, 0.15, 0.45, 0.45)
    return crown | disk(u, v, 0, 0.5, 0.5, 0.5), box(u, v, -0.13, 0.13, -1, -0.2)


def _car(u: Array, v: Array) -> tuple[Mask, Mask]:
    cabin = cone(u, v, -0.1, 0.9, 0, 1.1) & (v < 0.5)
    wheels = disk(u, v, -0.55, -0.45, 0.24, 0.24) | disk(u, v, 0.55, -0.45, 0.24, 0.24)
    return box(u, v, -1, 1, -0.45, 0.1) | cabin, wheels | box(u, v, 0, 0.3, 0.12, 0.36)


def _boat(u: Array, v: Array) -> tuple[Mask, Mask]:
    hull = cone(u, v, 0, 1, -0.3, -1.6) & (v > -0.75)
    return hull | cone(u, v, 0, 0.75, -0.15, 1), box(u, v, -0.07, 0.07, -0.3, 1)


def _house(u: Array, v: Array) -> tuple[Mask, Mask]:
    holes = box(u, v, -0.05, 0.25, -0.8, -0.3) | box(u, v, -0.5, -0.25, -0.3, 0)
    return box(u, v, -0.7, 0.7, -0.8, 0.2) | cone(u, v, 0, 0.95, 0.15, 0.95), holes


def _castle(u: Array, v: Array) -> tuple[Mask, Mask]:
    towers = (np.abs(np.abs(u) - 0.7) < 0.25) & (v > -0.8) & (v < 0.6)
    top = np.where(np.abs(u) < 0.45, 0.35, 0.85)
    teeth = (np.abs(u) < 0.95) & (v > 0) & (v < top) & (np.cos(u * 25) > 0)
    return towers | teeth | box(u, v, -0.5, 0.5, -0.8, 0.1), disk(u, v, 0, -0.75, 0.22, 0.5) & (v > -0.8)


def _striped(random: Random, u: Array, v: Array) -> Mask:
    across, _ = turn(u, v, random.uniform(0, np.pi))
    return np.asarray(across / random.uniform(0.36, 0.48) % 1 < 0.5)


def _dotted(random: Random, u: Array, v: Array) -> Mask:
    column, row = cells(random, u, v, random.uniform(0.4, 0.5))
    return np.asarray(np.hypot(column % 1 - 0.5, row % 1 - 0.5) < 0.34)


def _plain(random: Random, u: Array, v: Array) -> Mask:
    return np.full(u.shape, random.random() < 0.5)


SHAPES: dict[str, Callable[[Array, Array], tuple[Mask, Mask]]] = {
    "cat": _cat,
    "fish": _fish,
    "flower": _flower,
    "tree": _tree,
    "car": _car,
    "boat": _boat,
    "house": _house,
    "castle": _castle,
}
TEXTURES: dict[str, Callable[[Random, Array, Array], Mask]] = {
    "striped": _striped,
    "dotted": _dotted,
    "plain": _plain,
}
