"""k-means: an iteration of ours against faiss's and scikit-learn's. ``make bench-kmeans`` has the rest."""

import sys
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import torch
from measuring import Row, in_turn, ratio, seconds
from sklearn.cluster import KMeans

from cf_lightning.clustering.faiss import FaissKMeans
from cf_lightning.clustering.lloyd import LloydKMeans
from cf_lightning.clustering.starts import random_rows
from cf_lightning.runtime import Runtime

sys.path.append(str(Path(__file__).parents[1] / "kmeans_bench"))

from fits import ITERATIONS, fit, inertia
from problem import Problem, synthetic
from speed import AMX, GPU, NO_AMX, SAME, has_amx

SMALL, LARGE = (50_000, 256, 500), (500_000, 256, 4000)  # rows, dimensions, k: on a CPU, on a GPU


def rows(folder: Path) -> Iterator[Row]:
    torch.set_num_threads(Runtime(devices=1, accelerator="cpu").num_threads())
    faiss.omp_set_num_threads(torch.get_num_threads())
    yield from Fits(synthetic("feat", folder / "small.npy", *SMALL)).rows()
    if torch.cuda.is_available() and faiss.get_num_gpus():
        yield from Fits(synthetic("feat", folder / "large.npy", *LARGE, "cuda")).rows()
    else:
        yield Row("k-means iterations / faiss on a GPU")


class Fits:
    """Plain Lloyd from the same first centroids: iterations a second, and what they come to."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.centroids = problem, dict[str, np.ndarray]()
        self.start = random_rows(problem.rows, problem.k, 0)

    def rows(self) -> Iterator[Row]:
        on_gpu, where = self.problem.device == "cuda", f"{self.problem}, {self.problem.device}"
        others = {"faiss": self.faiss} if on_gpu else {"faiss": self.faiss, "scikit-learn": self.sklearn}
        must = (GPU if on_gpu else AMX if has_amx() else NO_AMX)[0]
        ours, *theirs = in_turn(self.lloyd, *others.values(), rounds=3)
        for name, speed in zip(others, theirs, strict=True):
            yield ratio(f"k-means iterations / {name}'s ({where})", ours, speed, must, "a second")
        reached = {name: inertia(self.problem, centroids) for name, centroids in self.centroids.items()}
        off = [100 * abs(reached["ours"] / reached[name] - 1) for name in others]
        what = f"Inertia of {ITERATIONS} iterations, off {' and '.join(others)} ({where})"
        yield Row(what, [max(off)], SAME[0], "%", digits=4)

    def lloyd(self) -> float:
        return self._fit("ours", LloydKMeans(iterations=ITERATIONS, relocate=False))

    def faiss(self) -> float:
        return self._fit("faiss", FaissKMeans(iterations=ITERATIONS))

    def sklearn(self) -> float:
        engine = KMeans(self.problem.k, init=self.start, n_init=1, max_iter=ITERATIONS, tol=0)
        taken = seconds(lambda: engine.fit(self.problem.rows.features))
        self.centroids["scikit-learn"] = engine.cluster_centers_
        return engine.n_iter_ / taken

    def _fit(self, name: str, engine: LloydKMeans | FaissKMeans) -> float:
        timed = fit(engine, self.problem, 0, start=self.start)
        self.centroids[name] = timed.centroids
        return timed.iterations / timed.seconds
