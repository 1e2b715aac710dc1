"""The twelve motions of the demo's things.

A motion maps moments (n,), in seconds, to poses. All go on as long as the clip does, so that any second of
it tells them; ``rises`` and ``falls``, and ``grows`` and ``shrinks``, share their frames and differ in order.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from pens import Array, Random

SECONDS = 2  # that a clip lasts


class Poses(NamedTuple):
    """Where a thing is at each moment: each field is (n,), or one number that holds all the time."""

    x: Array | float = 0.0  # of its middle, in half sides of the picture
    y: Array | float = 0.0
    angle: Array | float = 0.0  # radians
    size: Array | float = 1.0
    seen: Array | float = 1.0  # 0 or 1


def _wave(random: Random, t: Array, slowest: float, fastest: float) -> Array:
    """The phase, in radians, of something that repeats so many times a second, either way round."""
    turns = random.choice([-1, 1]) * random.uniform(slowest, fastest) * t + random.random()
    return np.asarray(2 * np.pi * turns)


def _way(random: Random, t: Array) -> Array:
    """The way from about -1 to about 1 at a steady pace, not all of it in some clips."""
    begin, end = -random.uniform(0.6, 1), random.uniform(0.6, 1)
    return np.asarray(begin + (end - begin) * t / SECONDS)


def _slides(random: Random, t: Array) -> Poses:
    return Poses(x=0.65 * random.choice([-1, 1]) * _way(random, t))


def _rises(random: Random, t: Array) -> Poses:
    return Poses(y=0.65 * _way(random, t))


def _falls(random: Random, t: Array) -> Poses:
    return _rises(random, SECONDS - t)


def _spins(random: Random, t: Array) -> Poses:
    return Poses(angle=_wave(random, t, 0.5, 0.9))


def _swings(random: Random, t: Array) -> Poses:
    angle = random.uniform(0.5, 0.8) * np.sin(_wave(random, t, 0.9, 1.3))
    return Poses(x=0.6 * np.sin(angle), y=0.6 - 0.6 * np.cos(angle), angle=angle)  # hangs from its top


def _circles(random: Random, t: Array) -> Poses:
    phase, radius = _wave(random, t, 0.6, 1.0), random.uniform(0.3, 0.42)
    return Poses(x=radius * np.cos(phase), y=radius * np.sin(phase))


def _bounces(random: Random, t: Array) -> Poses:
    height = np.abs(np.sin(_wave(random, t, 0.5, 0.8)))
    return Poses(y=random.uniform(0.6, 0.8) * height - 0.35)


def _shakes(random: Random, t: Array) -> Poses:
    phase = _wave(random, t, 2.0, 2.8)
    return Poses(x=random.uniform(0.1, 0.18) * np.sin(phase), angle=0.15 * np.cos(phase))


def _pulses(random: Random, t: Array) -> Poses:
    return Poses(size=random.uniform(1.3, 1.5) ** np.sin(_wave(random, t, 1.0, 1.5)))


def _grows(random: Random, t: Array) -> Poses:
    return Poses(size=1.8 ** _way(random, t))


def _shrinks(random: Random, t: Array) -> Poses:
    return _grows(random, SECONDS - t)


def _blinks(random: Random, t: Array) -> Poses:
    dark = random.uniform(0.3, 0.5)
    phase = _wave(random, t, 1.0, 1.6)
    return Poses(seen=np.where(phase / (2 * np.pi) % 1 > dark, 1.0, 0.0))


MOTIONS: dict[str, Callable[[Random, Array], Poses]] = {
    "slides": _slides,
    "rises": _rises,
    "falls": _falls,
    "spins": _spins,
    "swings": _swings,
    "circles": _circles,
    "bounces": _bounces,
    "shakes": _shakes,
    "pulses": _pulses,
    "grows": _grows,
    "shrinks": _shrinks,
    "blinks": _blinks,
}
