"""Our own k-means engine."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from cf_lightning.clustering.base import Clustering, Fit, KMeans
from cf_lightning.clustering.rows import Rows
from cf_lightning.errors import ConfigError

if TYPE_CHECKING:
    from cf_lightning.clustering.group import Group

SETTLE = 3  # the last iterations, in which no centroid is relocated any more


class LloydKMeans(KMeans):
    """Lloyd's algorithm, exact; the same bits for any number of processes and threads.

    Attributes:
        init: first centroids: ``random`` rows, ``kmeans++`` on a sample of the rows, or ``two_level``.
        relocate: move centroids that are hardly missed to where they are.
        tolerance: stop when an iteration lowers the inertia by less than this share. A fit in which no row
            changes its cluster any more has arrived and always stops.
        path: ``.npy`` file of the first centroids, in place of ``init``.
    """

    VERSION: ClassVar[int] = 1
    RANKS: ClassVar[Literal["all", "one"]] = "all"

    init: Literal["random", "kmeans++", "two_level"] = "random"
    relocate: bool = True
    tolerance: float = Field(default=0.0, ge=0, lt=1)
    path: str | None = None

    def memory_bytes(self, num_rows: int, dim: int, k: int) -> int:
        """Centroids, their sums in float64 and a few numbers for each row; the rows stay in their file."""
        return 40 * k * dim + 20 * num_rows + 64 * 2**20

    def fit(self, rows: Rows, k: int, seed: int, job: Fit) -> Clustering:
        """See ``KMeans.fit``; the processes of the group share the rows."""
        from cf_lightning.clustering.group import Group
        from cf_lightning.clustering.loop import LloydLoop
        from cf_lightning.clustering.relocation import relocate

        group = Group.current()
        file = job.folder / "lloyd.npz" if job.folder else None
        begun = Clustering.saved(file) or Clustering(self._first(rows, k, seed, job, group), [])
        inertia = begun.inertia
        loop = LloydLoop(rows, begun.centroids, group, job.device, self.spherical)
        while len(inertia) < self.iterations:
            before = loop.centroids
            loop.assign()
            inertia.append(loop.inertia())
            job.watch.iteration(len(inertia), inertia[-1])
            loop.update()
            left = self.iterations - len(inertia)
            moved = relocate(loop, [seed, len(inertia)]) if self.relocate and left >= SETTLE else 0
            has_arrived = np.array_equal(loop.centroids, before)  # known to a resumed fit, too
            if not moved and (has_arrived or self._is_slow(inertia)):
                break
            if file and group.rank == 0:
                Clustering(loop.centroids, inertia).save(file)
        return Clustering(loop.centroids, inertia)

    def _is_slow(self, inertia: list[float]) -> bool:
        if len(inertia) < 2 or inertia[-1] > inertia[-2]:  # it may rise after a relocation
            return False
        return inertia[-2] - inertia[-1] < self.tolerance * inertia[-2]

    def _first(self, rows: Rows, k: int, seed: int, job: Fit, group: "Group") -> np.ndarray:
        from cf_lightning.clustering.loop import on_the_sphere

        start = self._start(rows, k, seed, job, group)
        return on_the_sphere(start) if self.spherical else start

    def _start(self, rows: Rows, k: int, seed: int, job: Fit, group: "Group") -> np.ndarray:
        from cf_lightning.clustering import starts

        if self.path is not None:
            return _load(self.path, (k, rows.dim))
        if job.start is not None:
            return job.start
        if self.init == "two_level":
            return starts.two_level(rows, k, seed, group, job.device, self.spherical)
        return (starts.plus_plus if self.init == "kmeans++" else starts.random_rows)(rows, k, seed)


def _load(path: str, shape: tuple[int, int]) -> np.ndarray:
    try:
        centroids = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"cluster.engine.path={path} is no .npy file of centroids: {error}") from None
    if centroids.shape != shape or not np.isfinite(centroids).all():
        raise ConfigError(
            f"cluster.engine.path={path}: {centroids.shape} is not (k, D) = {shape}, or not finite"
        )
    return np.ascontiguousarray(centroids, np.float32)
