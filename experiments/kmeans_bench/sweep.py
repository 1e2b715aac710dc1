"""Five values of k on the same features: five fits of ours against five of faiss."""

from collections.abc import Iterator
from statistics import median

from fits import ITERATIONS, fit, inertia, rounds
from measuring import Bound, middle
from problem import Problem
from table import Row

from cf_lightning.clustering.faiss import FaissKMeans
from cf_lightning.clustering.lloyd import LloydKMeans

KS = 125, 250, 500, 1000, 2000
OUR_ITERATIONS = 7  # with our first centroids and relocation; the second line is the price
TIME = Bound("<=", 0.333), Bound("<=", 0.2)
INERTIA = Bound("<=", 1.01), Bound("<=", 1.01)


def rows(problem: Problem) -> Iterator[Row]:
    played = rounds(lambda seed: [_play(problem, seed, k) for k in KS])
    ours, theirs = ([sum(fits[side] for fits in sweep) for sweep in played] for side in (0, 1))
    times = [our / their for our, their in zip(ours, theirs, strict=True)]
    where = f"{problem.name}, k={KS[0]} to {KS[-1]:,}"
    what = f"{len(KS)} values of k, {OUR_ITERATIONS} iterations / {ITERATIONS} of faiss, time ({where})"
    yield Row(what, *TIME, median(times), middle(times), f"{median(ours):.3g} against {median(theirs):.3g} s")
    shares = [median(sweep[i][2] for sweep in played) for i in range(len(KS))]
    each = ", ".join(f"k={k} {share:.4f}" for k, share in zip(KS, shares, strict=True))
    yield Row(
        f"inertia of these, the worst / faiss's ({where})", *INERTIA, max(shares), f"{max(shares):.4f}", each
    )


def _play(problem: Problem, seed: int, k: int) -> tuple[float, float, float]:
    """Our seconds, faiss's seconds, and our inertia over faiss's."""
    theirs = fit(FaissKMeans(iterations=ITERATIONS), problem, seed, k=k)
    ours = fit(LloydKMeans(iterations=OUR_ITERATIONS), problem, seed, k=k)
    share = inertia(problem, ours.centroids) / inertia(problem, theirs.centroids)
    return ours.seconds, theirs.seconds, share
