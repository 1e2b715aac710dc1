"""k-means by faiss, the library of VISSL's ClusterFit."""

import logging
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cf_lightning.clustering.base import Clustering, Device, Fit, KMeans
from cf_lightning.clustering.rows import Rows
from cf_lightning.errors import ConfigError
from cf_lightning.runtime import Runtime

log = logging.getLogger(__name__)


class FaissKMeans(KMeans):
    """``faiss.Kmeans`` with every default written out: random first centroids, empty clusters split.

    On a CPU the same rows, seed and version of faiss give the same bits; the number of threads made
    no difference wherever it was tried. On GPUs, where all visible ones share the work, that is not
    promised. faiss adds the inertia up in float32: of tens of millions of rows it is a rough figure.

    torch and faiss may be imported in either order in their current wheels.

    Attributes:
        init: first centroids: ``random`` rows, ``kmeans++`` or its approximation by Markov chains,
            ``afk-mc2``; the latter two need faiss 1.15.
        restarts: fits from other first centroids; the one with the least inertia is kept.
    """

    VERSION: ClassVar[int] = 1

    init: Literal["random", "kmeans++", "afk-mc2"] = "random"
    restarts: int = Field(default=1, ge=1)

    def fit(self, rows: Rows, k: int, seed: int, job: Fit) -> Clustering:
        """See ``KMeans.fit``; faiss neither copies nor subsamples the rows, and reports when it is done."""
        import faiss

        _use_all_cores()
        points = rows.load()
        kmeans = faiss.Kmeans(
            rows.dim,
            k,
            niter=self.iterations,
            nredo=self.restarts,
            seed=seed,
            spherical=self.spherical,
            max_points_per_centroid=-(-len(rows) // k),  # faiss's 256 would subsample without a word
            min_points_per_centroid=1,
            gpu=_num_gpus(job.device),
            verbose=False,
            **self._new_parameters(),
        )
        kmeans.train(points, init_centroids=job.start)
        objective = np.asarray(kmeans.obj)[-self.iterations :]  # earlier ones: restarts before the best
        if len(rows) == k:
            objective = np.zeros(1)  # faiss makes every row a centroid and iterates no more
        elif self.spherical:
            objective = np.maximum(2 * (len(rows) - objective), 0)  # faiss sums cosines
        for iteration, inertia in enumerate(objective.tolist(), start=1):
            job.watch.iteration(iteration, inertia)
        return Clustering(np.array(kmeans.centroids), objective.tolist())

    def _new_parameters(self) -> dict[str, Any]:
        """Those that older versions of faiss do not have."""
        import faiss

        if not hasattr(faiss.ClusteringParameters, "init_method"):
            if self.init != "random":
                found = faiss.__version__
                raise ConfigError(f"cluster.engine.init={self.init} needs faiss 1.15, this is {found}")
            return {}
        names = {"random": "RANDOM", "kmeans++": "KMEANS_PLUS_PLUS", "afk-mc2": "AFK_MC2"}
        return {
            "init_method": getattr(faiss, f"ClusteringInitMethod_{names[self.init]}"),
            # faiss would stop when its float32 sum of distances stands still, as it does beyond 2**24
            "early_stop_threshold": -1.0,
        }

    def memory_bytes(self, num_rows: int, dim: int, k: int) -> int:
        """The rows in one piece, as faiss wants them, and centroids twice."""
        return 4 * dim * (num_rows + 2 * k)

    def num_products(self, num_rows: int, k: int) -> int:
        """Once for each restart."""
        return super().num_products(num_rows, k) * self.restarts


def _use_all_cores() -> None:
    """The engine runs in one process, but torchrun may have told OpenMP to use a single thread."""
    import faiss

    faiss.omp_set_num_threads(Runtime(devices=1).num_threads())


def _num_gpus(device: Device) -> int:
    import faiss

    if device == "cpu":
        return 0
    if not faiss.get_num_gpus():
        log.warning("this build of faiss has no GPU support: k-means runs on the CPU")
    return int(faiss.get_num_gpus())
