"""Lloyd's iteration: exact, incremental, by any number of processes, on rows that are left on disk."""

import numpy as np

from cf_lightning.clustering.base import Device
from cf_lightning.clustering.group import Group
from cf_lightning.clustering.nearest import NearestCentroid
from cf_lightning.clustering.rows import Rows
from cf_lightning.clustering.sums import ClusterSums, Moments


class LloydLoop:
    """A fit between two iterations (Lloyd 1982).

    Only what can have changed is computed again: a row whose own centroid stood still is compared with
    the centroids that moved, and only rows that change their cluster are added to one sum and taken from
    another. Labels are exact and so are the sums; hence neither the number of processes and threads nor
    the iteration at which a fit was continued changes a bit of the result.

    Args:
        rows: of the whole fit.
        centroids: (K, D) float32 to begin with.
        group: the processes; each looks after its own share of the rows.
        device: where to compute.
        spherical: centroids stay on the unit sphere.
        moments: of the rows, if they are known.

    Attributes:
        centroids: (K, D) float32.
        labels: (m,) int64 of this rank's rows, -1 before the first iteration.
        clusters: sums over all ranks.
    """

    def __init__(
        self,
        rows: Rows,
        centroids: np.ndarray,
        group: Group,
        device: Device,
        spherical: bool = False,
        moments: Moments | None = None,
    ) -> None:
        self.rows, self.group, self.device, self.spherical = rows, group, device, spherical
        self.centroids = np.ascontiguousarray(centroids, np.float32)
        self.moments = moments or Moments.of(rows, group)
        self.clusters = ClusterSums(len(centroids), rows, self.moments.largest, group)
        self.share = group.share(len(rows))
        self.labels = np.full(self.share[1] - self.share[0], -1, np.int64)
        self._floor = np.empty(len(self.labels), np.float32)  # at most the score of the row's own centroid
        self._moved = np.ones(len(centroids), bool)  # since the last assignment

    def assign(self) -> int:
        """Give every row its nearest centroid; returns how many rows of all ranks changed their cluster."""
        if not self._moved.any():
            return 0
        everywhere = NearestCentroid(self.centroids, self.moments.mean, self.device)
        moved = everywhere
        if not self._moved.all():
            moved = NearestCentroid(self.centroids[self._moved], self.moments.mean, self.device)
        turned = np.zeros(1, np.int64)
        for start, block in self.rows.blocks(*self.share, self.device):
            mine = slice(start - self.share[0], start - self.share[0] + len(block))
            labels, floor = self.labels[mine], self._floor[mine]
            open_ = np.arange(len(block))
            if moved is not everywhere:
                open_ = np.flatnonzero(~self._stays(block, labels, floor, moved))
            part = block if len(open_) == len(block) else block[open_]
            found, floor[open_] = everywhere(part)
            turned += self._turn(part, self.moments.squares[mine][open_], labels[open_], found)
            labels[open_] = found
        self._moved[:] = False
        self.clusters.commit()
        self.group.sum(turned)
        return int(turned[0])

    def update(self) -> None:
        """Move every centroid to the mean of its rows; one without rows stays where it is."""
        means = self.clusters.means().astype(np.float32)
        self.move(np.where(self.clusters.counts[:, None] > 0, means, self.centroids))

    def move(self, centroids: np.ndarray) -> None:
        """Go on from other centroids, (K, D) float32."""
        is_new = (centroids != self.centroids).any(axis=1)
        if self.spherical:
            centroids[is_new] = on_the_sphere(centroids[is_new])
            is_new = (centroids != self.centroids).any(axis=1)
        self._moved |= is_new
        self.centroids = centroids

    def inertia(self) -> float:
        """The sum of squared distances to the centroids that the rows were last assigned to."""
        return float(self.clusters.inertia(self.centroids).sum())

    def _stays(
        self, block: np.ndarray, labels: np.ndarray, floor: np.ndarray, moved: NearestCentroid
    ) -> np.ndarray:
        """(b,) bool: the rows whose own centroid stood still and is nearer than all that moved."""
        stays: np.ndarray = ~self._moved[labels]
        waiting = np.flatnonzero(stays)
        challenge = moved.propose(block[waiting])
        stays[waiting] = challenge.best + challenge.error < floor[waiting]
        return stays

    def _turn(self, rows: np.ndarray, squares: np.ndarray, before: np.ndarray, after: np.ndarray) -> int:
        """Move the rows that changed their cluster from one sum to the other."""
        turned = np.flatnonzero(before != after)
        if len(turned):
            if len(turned) < len(rows):
                rows, squares, before, after = (array[turned] for array in (rows, squares, before, after))
            self.clusters.add(rows, squares, after)
            if before[0] >= 0:  # in the first iteration no row has a cluster yet
                self.clusters.add(rows, squares, before, sign=-1)
        return len(turned)


def on_the_sphere(rows: np.ndarray) -> np.ndarray:
    """(n, D) float32 of norm 1; zeros stay."""
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-300), np.float32)
