"""Timed fits of either side, and rounds of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from problem import Problem

from cf_lightning.clustering.base import Fit, KMeans, Watch
from cf_lightning.clustering.nearest import NearestCentroid, squared_distances

Result = TypeVar("Result")

WARM_UP, *SEEDS = 0, 1, 2, 3
ITERATIONS = 20  # faiss's, always


@dataclass(frozen=True)
class Timed:
    """A finished fit.

    Attributes:
        seconds: from the call to the centroids, first centroids included.
        iterations: that it took.
        centroids: (K, D) float32.
    """

    seconds: float
    iterations: int
    centroids: np.ndarray


def fit(
    engine: KMeans,
    problem: Problem,
    seed: int,
    *,
    k: int | None = None,
    start: np.ndarray | None = None,
    watch: Watch | None = None,
) -> Timed:
    job = Fit(problem.device, start=start, watch=watch or Watch())
    begin = time.perf_counter()
    fitted = engine.fit(problem.rows, k or problem.k, seed, job)
    return Timed(time.perf_counter() - begin, len(fitted.inertia), fitted.centroids)


def inertia(problem: Problem, centroids: np.ndarray) -> float:
    """Of all rows and final centroids, by the same exact arithmetic whoever has fitted them."""
    nearest = NearestCentroid(centroids, centroids.mean(axis=0), problem.device)
    total = 0.0
    for _, block in problem.rows.blocks():
        total += squared_distances(block, centroids[nearest(block)[0]]).sum(dtype=np.float64)
    return float(total)


def rounds(play: Callable[[int], Result]) -> list[Result]:
    """What ``play(seed)``, in which the sides take turns, gives for each seed, after a warm-up of it."""
    play(WARM_UP)
    return [play(seed) for seed in SEEDS]
