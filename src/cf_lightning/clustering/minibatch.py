"""k-means by scikit-learn's MiniBatchKMeans: the plain reference."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from cf_lightning.clustering.base import Clustering, Device, Fit, KMeans
from cf_lightning.clustering.rows import Rows

if TYPE_CHECKING:
    from sklearn.cluster import MiniBatchKMeans as Reference


class MiniBatchKMeans(KMeans):
    """``sklearn.cluster.MiniBatchKMeans`` (Sculley 2010), fed batch by batch so that rows stay in their file.

    Always on the CPU. Before each pass the inertia of all rows is computed, which the history needs and
    scikit-learn does not: as many products again. Its own ways to stop early belong to its ``fit``, which
    wants all rows in memory, and are not used.

    Attributes:
        iterations: passes over the rows, each in another random order.
        spherical: normalise the centroids after every batch, which scikit-learn has no option for.
        init: first centroids: ``random`` rows, or ``kmeans++`` on a sample of the rows.
        batch_size: rows that centroids move after; the first batch has at least k, as scikit-learn wants.
        reassignment_ratio: centroids with fewer rows than this share of what the largest has are, now and
            then, replaced by random rows.
    """

    VERSION: ClassVar[int] = 1

    iterations: int = Field(default=10, ge=1)
    init: Literal["random", "kmeans++"] = "kmeans++"
    batch_size: int = Field(default=4096, ge=1)
    reassignment_ratio: float = Field(default=0.01, ge=0, lt=1)

    def memory_bytes(self, num_rows: int, dim: int, k: int) -> int:
        """A batch, centroids several times, the sample of k-means++ and the order of the rows."""
        sample = 12 * dim * min(num_rows, 10 * k) if self.init == "kmeans++" else 0
        batch = 8 * dim * max(self.batch_size, k)
        return batch + max(sample, 40 * k * dim) + 16 * num_rows + 64 * 2**20

    def num_products(self, num_rows: int, k: int) -> int:
        """Every pass once for the batches, once for the inertia."""
        return 2 * super().num_products(num_rows, k)

    def fit(self, rows: Rows, k: int, seed: int, job: Fit) -> Clustering:
        """See ``KMeans.fit``."""
        from cf_lightning.clustering.loop import on_the_sphere

        centroids, inertia = self._start(rows, k, seed, job), []
        reference = self._reference(centroids, seed)
        for number in range(1, self.iterations + 1):
            inertia.append(_inertia(rows, centroids, job.device))
            job.watch.iteration(number, inertia[-1])
            order = np.random.default_rng([seed, number]).permutation(len(rows))
            first = max(k, self.batch_size) if number == 1 else self.batch_size
            for batch in np.split(order, range(first, len(rows), self.batch_size)):
                reference.partial_fit(rows.take(np.sort(batch)).load())
                if self.spherical:
                    reference.cluster_centers_ = on_the_sphere(reference.cluster_centers_)
            centroids = np.array(reference.cluster_centers_, np.float32)
        return Clustering(centroids, inertia)

    def _start(self, rows: Rows, k: int, seed: int, job: Fit) -> np.ndarray:
        from cf_lightning.clustering import starts

        if job.start is not None:
            return job.start
        return (starts.plus_plus if self.init == "kmeans++" else starts.random_rows)(rows, k, seed)

    def _reference(self, centroids: np.ndarray, seed: int) -> "Reference":
        from sklearn.cluster import MiniBatchKMeans as Reference

        return Reference(
            len(centroids),
            init=centroids,
            n_init=1,
            batch_size=self.batch_size,
            reassignment_ratio=self.reassignment_ratio,
            random_state=seed,
            compute_labels=False,  # of the batch alone, after it has moved the centroids
        )


def _inertia(rows: Rows, centroids: np.ndarray, device: Device) -> float:
    """The sum of squared distances of all rows to the nearest centroid."""
    from cf_lightning.clustering.nearest import NearestCentroid, squared_distances

    nearest, total = NearestCentroid(centroids, centroids.mean(axis=0), device), 0.0
    for _, block in rows.blocks():
        labels, _ = nearest(block)
        total += float(squared_distances(block, centroids[labels]).sum(dtype=np.float64))
    return total
