"""k-means by faiss, the library of VISSL's ClusterFit."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np

from cf_lightning.clustering.base import Clustering, Device, KMeans
from cf_lightning.runtime import Runtime

log = logging.getLogger(__name__)


class FaissKMeans(KMeans):
    """``faiss.Kmeans`` with every default written out: random first centroids, empty clusters split.

    On a CPU the same rows, seed and version of faiss give the same bits; the number of threads made
    no difference wherever it was tried. On GPUs, where all visible ones share the work, that is not
    promised. faiss adds the inertia up in float32: of tens of millions of rows it is a rough figure.

    torch and faiss may be imported in either order in their current wheels.
    """

    VERSION: ClassVar[int] = 1

    def fit(self, rows: np.ndarray, k: int, seed: int, device: Device) -> Clustering:
        """See ``KMeans.fit``; faiss neither copies nor subsamples the rows."""
        import faiss

        _use_all_cores()
        # since 1.15 faiss stops when its float32 sum of distances stands still, as it does beyond 2**24
        stops_early = hasattr(faiss.ClusteringParameters, "early_stop_threshold")
        never_stop = {"early_stop_threshold": -1.0} if stops_early else {}
        kmeans = faiss.Kmeans(
            rows.shape[1],
            k,
            niter=self.iterations,
            nredo=self.restarts,
            seed=seed,
            spherical=self.spherical,
            max_points_per_centroid=-(-len(rows) // k),  # faiss's 256 would subsample without a word
            min_points_per_centroid=1,
            gpu=_num_gpus(device),
            verbose=False,
            **never_stop,
        )
        kmeans.train(rows)
        objective = np.asarray(kmeans.obj)[-self.iterations :]  # earlier ones: restarts before the best
        if len(rows) == k:
            objective = np.zeros(1)  # faiss makes every row a centroid and iterates no more
        elif self.spherical:
            objective = np.maximum(2 * (len(rows) - objective), 0)  # faiss sums cosines
        return Clustering(np.array(kmeans.centroids), objective.tolist())

    def assign(
        self, chunks: Iterable[np.ndarray], centroids: np.ndarray, device: Device
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """See ``KMeans.assign``; exact search, one chunk in memory at a time."""
        import faiss

        _use_all_cores()
        flat = faiss.IndexFlatIP if self.spherical else faiss.IndexFlatL2
        index: Any = flat(centroids.shape[1])
        if gpus := _num_gpus(device):
            index = faiss.index_cpu_to_all_gpus(index, ngpu=gpus)
        index.add(centroids)
        for chunk in chunks:
            scores, labels = index.search(chunk, 1)
            squared = 2 - 2 * scores[:, 0] if self.spherical else scores[:, 0]
            yield labels[:, 0], np.maximum(squared, 0)  # rounding can go below zero


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
