"""Sums of rows by cluster that come out the same whatever the order of the additions."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from cf_lightning.clustering.group import ALONE, Group
from cf_lightning.clustering.kernel import kernels
from cf_lightning.clustering.rows import Rows


@dataclass(frozen=True)
class Moments:
    """What Lloyd's algorithm knows of its rows beforehand.

    Attributes:
        squares: (m,) float64, the squared norms of this rank's rows.
        largest: norm of all rows.
        mean: (D,) float32, of all rows.
    """

    squares: np.ndarray
    largest: float
    mean: np.ndarray

    @classmethod
    def of(cls, rows: Rows, group: Group = ALONE) -> Self:
        """Two passes over the rows, shared by the ranks."""
        share = group.share(len(rows))
        squares = np.concatenate([np.empty(0), *(_squares(block) for _, block in rows.blocks(*share))])
        largest = np.array([squares.max(initial=0.0)])
        group.max(largest)
        total = ClusterSums(1, rows, math.sqrt(largest.item()), group)
        for start, block in rows.blocks(*share):
            first = start - share[0]
            total.add(block, squares[first : first + len(block)], np.zeros(len(block), np.int64))
        total.commit()
        return cls(squares, math.sqrt(largest.item()), total.means()[0].astype(np.float32))


class ClusterSums:
    """What Lloyd's algorithm has to know of each cluster, kept up to date as rows change clusters.

    Each value is rounded to a multiple of a power of two first, chosen so small that n values lose less
    than float32 has to lose, and so large that their sums are exact in float64. Exact additions can be
    done in any order, by any number of threads and processes, and undone again: the sums never drift.

    Args:
        k: number of clusters.
        rows: all rows that are ever added at once.
        largest: norm of them.
        group: the processes that add rows.

    Attributes:
        sums: (K, D) float64, of the rows.
        squares: (K,) float64, of their squared norms.
        counts: (K,) float64, their number.
    """

    def __init__(self, k: int, rows: Rows, largest: float, group: Group = ALONE) -> None:
        self.sums, self.squares, self.counts = np.zeros((k, rows.dim)), np.zeros(k), np.zeros(k)
        totals = self._totals()
        self._group = group
        self._changes = totals if group.size == 1 else tuple(np.zeros_like(total) for total in totals)
        self._rounder = _rounder(largest * len(rows))
        self._square_rounder = _rounder(largest**2 * len(rows))

    def _totals(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.sums, self.squares, self.counts

    def add(self, block: np.ndarray, squares: np.ndarray, labels: np.ndarray, sign: int = 1) -> None:
        """Add rows to clusters, or take them away.

        Args:
            block: (b, D) float32.
            squares: (b,) float64, their squared norms.
            labels: (b,) int64, their clusters.
            sign: 1 or -1.
        """
        sums, total_squares, counts = self._changes
        on_grid = (squares + self._square_rounder) - self._square_rounder
        total_squares += sign * np.bincount(labels, on_grid, len(counts))
        counts += sign * np.bincount(labels, minlength=len(counts))
        for kernel in kernels()[:1]:
            kernel.add(sums, block, labels, sign, self._rounder, torch.get_num_threads())
            return
        values = torch.from_numpy(block.astype(np.float64)).add_(self._rounder).sub_(self._rounder)
        torch.from_numpy(sums).index_add_(0, torch.from_numpy(labels), values, alpha=sign)

    def commit(self) -> None:
        """Take over what all ranks have added since the last time; one alone adds to the totals at once."""
        if self._group.size == 1:
            return
        self._group.sum(*self._changes)
        for total, change in zip(self._totals(), self._changes, strict=True):
            total += change
            change[...] = 0

    def means(self) -> np.ndarray:
        """(K, D) float64 centres of gravity; zeros for a cluster without rows."""
        return np.asarray(self.sums / np.maximum(self.counts, 1)[:, None])

    def inertia(self, centroids: np.ndarray) -> np.ndarray:
        """(K,) float64: squared distances of each cluster's rows to its centroid of (K, D), summed."""
        exact = centroids.astype(np.float64)
        cross = np.einsum("kd,kd->k", self.sums, exact)
        norms = np.einsum("kd,kd->k", exact, exact)
        return np.asarray(np.maximum(self.squares - 2 * cross + self.counts * norms, 0))


def _rounder(bound: float) -> float:
    """What rounds a float64 to the grid when it is added and subtracted; sums up to ``bound`` are exact."""
    step = 2.0 ** (math.ceil(math.log2(max(bound, 1e-300))) - 50)
    return 1.5 * 2**52 * step


def _squares(block: np.ndarray) -> np.ndarray:
    for kernel in kernels()[:1]:
        return kernel.square(block, torch.get_num_threads())
    return np.asarray(np.square(block, dtype=np.float64).sum(axis=1))
