"""What k-means says about every sample, and its files."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Assignment:
    """Centroids and the cluster of every row.

    Attributes:
        centroids: (K, D) float32, in the clustered space.
        labels: (N,) int64, the nearest centroid; -1 for skipped rows.
        distances: (N,) float32, squared, to that centroid in the clustered space; NaN for skipped rows.
        inertia: for each iteration, the sum of squared distances of the rows that were used.
        available: (n,) int64, the rows that k-means might have been fitted on.
        used: (m,) int64, those that it was fitted on: all of them, unless a subsample was asked for.
    """

    centroids: np.ndarray
    labels: np.ndarray
    distances: np.ndarray
    inertia: list[float]
    available: np.ndarray
    used: np.ndarray

    def inertia_of(self, rows: np.ndarray) -> float:
        """The sum of squared distances of these rows to the final centroids."""
        return float(self.distances[rows].sum(dtype=np.float64))

    def facts(self) -> dict[str, float]:
        """The figures of a fit.

        ``inertia_train_sample`` is over the rows that were used and ``inertia_all`` over all that were
        available, as are ``empty`` (clusters without a row) and ``largest_share`` (of the largest cluster).
        """
        sizes = np.bincount(self.labels[self.available], minlength=len(self.centroids))
        return {
            "k": len(self.centroids),
            "inertia_train_sample": self.inertia_of(self.used),
            "inertia_all": self.inertia_of(self.available),
            "empty": int((sizes == 0).sum()),
            "largest_share": float(sizes.max() / sizes.sum()),
            "points_used": len(self.used),
            "points_available": len(self.available),
        }

    def save(self, folder: Path) -> None:
        """Write ``labels.npy``, ``distances.npy``, ``centroids.npy`` and ``inertia.csv``."""
        for name in ("labels", "distances", "centroids"):
            np.save(folder / f"{name}.npy", getattr(self, name))
        with open(folder / "inertia.csv", "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["iteration", "inertia"])
            table.writerows(enumerate(self.inertia, start=1))
