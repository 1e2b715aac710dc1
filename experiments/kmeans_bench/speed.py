"""An iteration of ``LloydKMeans`` against one of faiss: plain Lloyd from the same first centroids."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from unittest import mock

from fits import ITERATIONS, Timed, fit, inertia, rounds
from measuring import Bound, middle
from problem import Problem
from table import Row

from cf_lightning.clustering.faiss import FaissKMeans
from cf_lightning.clustering.kernel import kernels
from cf_lightning.clustering.lloyd import LloydKMeans
from cf_lightning.clustering.starts import random_rows

AMX = Bound(">=", 1.7), Bound(">=", 5)
NO_AMX = Bound(">=", 0.95), Bound(">=", 1.3)
GPU = Bound(">=", 8), Bound(">=", 20)
SAME = Bound("<=", 0.1, " %"), Bound("<=", 0.1, " %")


def has_amx() -> bool:
    """Whether the processor multiplies bf16 matrices, and there is a compiled kernel to make use of it."""
    return "amx_bf16" in Path("/proc/cpuinfo").read_text().split() and bool(kernels())


def what(problem: str) -> tuple[str, str, str]:
    """The first column of the three lines."""
    return (
        f"iteration, times faiss's speed ({problem})",
        f"inertia of these, off faiss's by ({problem})",
        f"iteration without the compiled kernel, times faiss's speed ({problem})",
    )


def rows(problem: Problem) -> Iterator[Row]:
    names = what(str(problem))
    goals = GPU if problem.device == "cuda" else AMX if has_amx() else NO_AMX
    theirs, ours, *without = zip(*rounds(lambda seed: _play(problem, seed)), strict=True)
    yield _speed(names[0], goals, ours, theirs)
    inertias = [[inertia(problem, timed.centroids) for timed in side] for side in (ours, theirs)]
    off = 100 * max(abs(our / their - 1) for our, their in zip(*inertias, strict=True))
    yield Row(names[1], *SAME, off, f"at most {off:.4f} %")
    for side in without:
        yield _speed(names[2], NO_AMX, side, theirs)


def unmeasured(problem: str) -> Iterator[Row]:
    names = what(problem)
    yield Row(names[0], *(AMX if has_amx() else NO_AMX))
    yield Row(names[1], *SAME)
    yield Row(names[2], *NO_AMX)


def _play(problem: Problem, seed: int) -> list[Timed]:
    """faiss, ours and, on a CPU, ours without the compiled kernel."""
    start = random_rows(problem.rows, problem.k, seed)
    lloyd = LloydKMeans(iterations=ITERATIONS, relocate=False)
    fits = [fit(engine, problem, seed, start=start) for engine in (FaissKMeans(iterations=ITERATIONS), lloyd)]
    if problem.device == "cpu":
        with _without_compiler():
            fits.append(fit(lloyd, problem, seed, start=start))
    return fits


@contextmanager
def _without_compiler() -> Iterator[None]:
    """What a machine has where the kernel cannot be compiled."""
    kernels.cache_clear()
    with mock.patch.dict(os.environ, CC="no-compiler"):
        assert not kernels()
        yield
    kernels.cache_clear()
    kernels()  # loaded again before anything is timed


def _speed(name: str, goals: tuple[Bound, Bound], ours: Sequence[Timed], theirs: Sequence[Timed]) -> Row:
    our, their = ([timed.seconds / timed.iterations for timed in side] for side in (ours, theirs))
    faster = [their_s / our_s for our_s, their_s in zip(our, their, strict=True)]
    sides = f"{median(our):.3g} against {median(their):.3g} s"
    return Row(name, *goals, median(faster), middle(faster), sides)
