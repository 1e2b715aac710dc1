"""What every k-means engine is: it finds centroids and says which of them is nearest."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from cf_lightning.config import Component

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Clustering:
    """What an engine has fitted.

    Attributes:
        centroids: (K, D) float32.
        inertia: for each iteration, the sum of squared distances of all fitted rows to the centroids
            that the iteration began with.
    """

    centroids: np.ndarray
    inertia: list[float]


class KMeans(Component, ABC):
    """The contract of the engines; which rows they see, and in which space, is the ``Clusterer``'s business.

    Attributes:
        iterations: of Lloyd's algorithm; 50 as VISSL's ClusterFit.
        restarts: fits from other first centroids; the one with the least inertia is kept.
        spherical: cosine k-means: rows and centroids have L2 norm 1.
    """

    iterations: int = Field(default=50, ge=1)
    restarts: int = Field(default=1, ge=1)
    spherical: bool = False

    @abstractmethod
    def fit(self, rows: np.ndarray, k: int, seed: int, device: Device) -> Clustering:
        """Find ``k`` centroids of all rows, never of a subsample.

        Args:
            rows: (n, D) float32, C-contiguous, finite, n >= k; of norm 1 if ``spherical``.
            k: number of centroids.
            seed: of the first centroids.
            device: where to compute; called in one process only.
        """

    @abstractmethod
    def assign(
        self, chunks: Iterable[np.ndarray], centroids: np.ndarray, device: Device
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The nearest centroid of each row, chunk by chunk.

        Args:
            chunks: of (n, D) float32 rows, as in ``fit``.
            centroids: (K, D) float32.
            device: where to compute.

        Yields:
            (n,) int64 labels and (n,) float32 squared distances.
        """
