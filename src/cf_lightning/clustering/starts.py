"""First centroids of Lloyd's algorithm."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cf_lightning.clustering.base import Device
from cf_lightning.clustering.group import ALONE, Group
from cf_lightning.clustering.loop import LloydLoop
from cf_lightning.clustering.rows import Rows
from cf_lightning.clustering.sums import Moments

SAMPLE_PER_CENTROID = 10  # rows that k-means++ chooses from


def random_rows(rows: Rows, k: int, *seed: int) -> np.ndarray:
    """(K, D) float32: k different rows (Forgy)."""
    drawn = np.random.default_rng(seed).choice(len(rows), k, replace=False, shuffle=False)
    return rows.take(np.sort(drawn)).load().copy()


def plus_plus(rows: Rows, k: int, seed: int) -> np.ndarray:
    """(K, D) float32: rows that lie apart, by k-means++ on a sample (Arthur and Vassilvitskii 2007).

    The sample has at most ten rows for each centroid and is held in memory as float64, so that the choice
    hardly depends on the order of the additions in a matrix product.
    """
    from sklearn.cluster import kmeans_plusplus

    sample = random_rows(rows, min(len(rows), SAMPLE_PER_CENTROID * k), seed).astype(np.float64)
    centroids, _ = kmeans_plusplus(sample, k, random_state=seed)
    return np.asarray(centroids, np.float32)


def two_level(
    rows: Rows, k: int, seed: int, group: Group, device: Device, spherical: bool = False
) -> np.ndarray:
    """(K, D) float32: the square root of k clusters, each divided in proportion to its size.

    Costs less than one iteration on all k centroids and starts from a better place than random rows do.
    Three iterations on either level: with ten, five full iterations later the inertia was no lower.
    """
    return Division(iterations=3, spherical=spherical, device=device)(rows, k, group, seed)[0]


@dataclass(frozen=True)
class Division:
    """Divides rows into clusters, those into smaller ones, and so on, by plain k-means on each level.

    For n rows a level costs n k^(1/levels) products an iteration in place of n k. The ranks share the rows on
    the first level, and its clusters on all others.

    Attributes:
        levels: 1 is plain k-means.
        iterations: of Lloyd's algorithm in each division, at most.
        spherical: centroids stay on the unit sphere.
        device: where to compute.
    """

    levels: int = 2
    iterations: int = 5
    spherical: bool = False
    device: Device = "cpu"

    def __call__(self, rows: Rows, k: int, group: Group, *seed: int) -> tuple[np.ndarray, float]:
        """Find the centroids of n >= k rows; any number of ranks finds the same bits.

        Returns:
            (K, D) float32, and the sum of squared distances of the rows to the centroids that they belong to,
            where each looks only at those that its own cluster was divided into: no less than the inertia.
        """
        return self._divide(rows, k, Moments.of(rows, group), group, seed)

    def _divide(
        self, rows: Rows, k: int, moments: Moments, group: Group, seed: Sequence[int]
    ) -> tuple[np.ndarray, float]:
        parents = round(k ** (1 / self.levels))
        start = random_rows(rows, parents, *seed)
        top = LloydLoop(rows, start, group, self.device, self.spherical, moments)
        for _ in range(self.iterations):
            if not top.assign():
                break
            top.update()
        if self.levels == 1:
            return top.centroids, top.inertia()
        parts = divide(k, top.clusters.counts.astype(np.int64))
        return replace(self, levels=self.levels - 1).split(top, parts, seed)

    def split(self, top: LloydLoop, parts: np.ndarray, seed: Sequence[int]) -> tuple[np.ndarray, float]:
        """Divide the clusters of a fit.

        Args:
            top: the fit, with rows assigned to its P clusters.
            parts: (P,) int64, how many centroids each cluster gets; not more than it has rows.
            seed: whatever makes the draws differ from those of other fits.

        Returns:
            (sum of parts, D) float32, cluster by cluster, and the sum of squared distances as above.
        """
        squares = _of_all_ranks(top, top.moments.squares)
        ends = np.cumsum(parts)
        centroids, inertia = np.zeros((ends[-1], top.rows.dim), np.float32), np.zeros(len(parts))
        for cluster, positions in dealt(top, parts > 0):
            members = _at_hand(top.rows.take(positions))
            moments = Moments(squares[positions], top.moments.largest, top.centroids[cluster])
            place = slice(ends[cluster] - parts[cluster], ends[cluster])
            centroids[place], inertia[cluster] = self._divide(
                members, parts[cluster], moments, ALONE, [*seed, cluster + 1]
            )
        top.group.sum(centroids, inertia)
        centroids += 0.0  # -0.0 becomes 0.0, as it does where ranks are added
        return centroids, float(inertia.sum())


def dealt(loop: LloydLoop, chosen: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Share clusters out over the ranks, in descending order of size so that the shares are about even.

    Args:
        loop: a fit with assigned rows.
        chosen: (K,) bool, which of its clusters.

    Yields:
        A cluster of this rank, and the positions of all rows that belong to it: int64, ascending.
    """
    order = np.argsort(_of_all_ranks(loop, loop.labels), kind="stable")
    sizes = loop.clusters.counts.astype(np.int64)
    ends = np.cumsum(sizes)
    clusters = np.flatnonzero(chosen)
    largest_first = clusters[np.argsort(-sizes[clusters], kind="stable")]
    for cluster in largest_first[loop.group.rank :: loop.group.size].tolist():
        yield cluster, order[ends[cluster] - sizes[cluster] : ends[cluster]]


def _of_all_ranks(loop: LloydLoop, mine: np.ndarray) -> np.ndarray:
    """(n,) what the ranks know of their (m,) rows each."""
    everywhere = np.zeros(len(loop.rows), mine.dtype)
    everywhere[slice(*loop.share)] = mine
    loop.group.sum(everywhere)
    return everywhere


def _at_hand(rows: Rows) -> Rows:
    """The same rows, read at once if they fit into one block: they are needed again and again."""
    if 4 * rows.dim * len(rows) > Rows.BLOCK_BYTES:
        return rows
    return Rows(rows.load(), np.arange(len(rows)))


def divide(k: int, sizes: np.ndarray) -> np.ndarray:
    """(P,) int64 that add up to k, in proportion to the (P,) sizes; at most those, at least 1 where not 0.

    Raises:
        ValueError: k is more than all sizes or less than the number of those that are not 0.
    """
    if not (sizes > 0).sum() <= k <= sizes.sum():
        raise ValueError(f"{k} cannot be divided by {sizes}")
    wanted = k * sizes / sizes.sum()
    parts: np.ndarray = np.minimum(np.maximum(np.floor(wanted).astype(np.int64), sizes > 0), sizes)
    while (missing := k - parts.sum()) > 0:
        best = np.argsort(np.where(parts < sizes, parts - wanted, np.inf), kind="stable")[:missing]
        parts[best[parts[best] < sizes[best]]] += 1
    while parts.sum() > k:
        parts[np.argmax(np.where(parts > 1, parts - wanted, -np.inf))] -= 1
    return parts
