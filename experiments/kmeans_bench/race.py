"""Our default settings against faiss's time: when they are as good, and how good they are at its end."""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from fits import ITERATIONS, fit, inertia, rounds
from measuring import Bound, middle
from problem import Problem
from table import Row

from cf_lightning.clustering.base import Watch
from cf_lightning.clustering.faiss import FaissKMeans
from cf_lightning.clustering.lloyd import LloydKMeans

TIME = Bound("<=", 0.333), Bound("<=", 0.166)
GPU_TIME = Bound("<=", 0.125), Bound("<=", 0.05)
INERTIA = Bound("<=", 0.98), Bound("<=", 0.96)


@dataclass(frozen=True)
class Race:
    """One round.

    Attributes:
        budget: seconds that faiss took.
        target: inertia of faiss's centroids.
        curve: seconds since the start and inertia of each iteration of ours within the budget.
    """

    budget: float
    target: float
    curve: list[tuple[float, float]]

    def reached(self) -> float:
        """Seconds until ours held centroids as good as faiss's; infinite if that is beyond the budget."""
        return next((seconds for seconds, reached in self.curve if reached <= self.target), math.inf)

    def share_of_time(self) -> float:
        return self.reached() / self.budget

    def share_of_inertia(self) -> float:
        return self.curve[-1][1] / self.target if self.curve else math.inf


class TimeIsUp(Exception):
    pass


class Stopwatch(Watch):
    """Notes the time of each iteration, and ends the fit when the budget is spent."""

    def __init__(self, budget: float) -> None:
        self.budget, self.start = budget, time.perf_counter()
        self.curve: list[tuple[float, float]] = []

    def iteration(self, number: int, inertia: float) -> None:
        seconds = time.perf_counter() - self.start
        if seconds > self.budget:
            raise TimeIsUp
        self.curve.append((seconds, inertia))


def what(problem: str) -> tuple[str, str]:
    """The first column of the two lines."""
    return (
        f"time to the inertia of {ITERATIONS} iterations of faiss / faiss's time ({problem})",
        f"inertia at faiss's time / faiss's inertia ({problem})",
    )


def rows(problem: Problem) -> Iterator[Row]:
    names, races = what(str(problem)), rounds(lambda seed: _play(problem, seed))
    times = [race.share_of_time() for race in races]
    ours, budget = median(race.reached() for race in races), median(race.budget for race in races)
    goals = GPU_TIME if problem.device == "cuda" else TIME
    yield Row(names[0], *goals, median(times), middle(times), f"{ours:.3g} against {budget:.3g} s")
    shares = [race.share_of_inertia() for race in races]
    measured = f"{median(shares):.4f} ({min(shares):.4f} to {max(shares):.4f})"
    sides = f"after {median(len(race.curve) for race in races):g} iterations"
    yield Row(names[1], *INERTIA, median(shares), measured, sides)


def unmeasured(problem: str) -> Iterator[Row]:
    names = what(problem)
    yield Row(names[0], *TIME)
    yield Row(names[1], *INERTIA)


def _play(problem: Problem, seed: int) -> Race:
    theirs = fit(FaissKMeans(iterations=ITERATIONS), problem, seed)
    target = inertia(problem, theirs.centroids)
    watch = Stopwatch(theirs.seconds)
    with contextlib.suppress(TimeIsUp):
        fit(LloydKMeans(), problem, seed, watch=watch)
    return Race(theirs.seconds, target, watch.curve)
