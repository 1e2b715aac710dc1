"""k-means by dividing clusters again and again, for very many of them, and of bounded sizes if asked for."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from cf_lightning.clustering.base import Clustering, Fit, KMeans
from cf_lightning.clustering.lloyd import LloydKMeans
from cf_lightning.clustering.rows import Rows
from cf_lightning.errors import ConfigError

if TYPE_CHECKING:
    from cf_lightning.clustering.loop import LloydLoop

log = logging.getLogger(__name__)

ROUNDS = 20  # of balancing, at most
POWER_ITERATIONS = 3  # towards the first principal component of a cluster


class HierarchicalKMeans(KMeans):
    """Divides the rows into k^(1/levels) clusters, each of them likewise, then refines all k together.

    A cluster gets children in proportion to its rows. No centroid is relocated, as that takes k^2 products.
    The same bits for any number of processes.

    The history is that of the iterations over all k: those that refine, then the rounds of balancing. With
    ``refine=0`` it begins with the inertia of the division, where a row looks only at the centroids of its
    own branch: no less than the true one.

    Attributes:
        levels: of the division.
        iterations: of Lloyd's algorithm in each division, at most.
        refine: iterations over all k afterwards, at most; they take most of the time.
        min_size: dissolve clusters with fewer rows; 1 leaves none empty. ``null`` is no bound.
        max_size: split clusters with more rows; ``null`` is no bound. Either bound moves centroids from one
            place to another, and every row still belongs to the nearest one. So it is a goal, for the rows
            that are fitted; what has not come to hold after twenty rounds is warned about.
    """

    VERSION: ClassVar[int] = 1
    RANKS: ClassVar[Literal["all", "one"]] = "all"

    levels: int = Field(default=2, ge=2)
    iterations: int = Field(default=5, ge=1)
    refine: int = Field(default=5, ge=0)
    min_size: int | None = Field(default=None, ge=1)
    max_size: int | None = Field(default=None, ge=1)

    @field_validator("max_size")
    @classmethod
    def _leaves_room(cls, value: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("min_size")
        if value and least and value < least:
            raise ValueError(f"less than min_size={least}")
        return value

    @property
    def _is_balanced(self) -> bool:
        return self.min_size is not None or self.max_size is not None

    def memory_bytes(self, num_rows: int, dim: int, k: int) -> int:
        """Centroids, their sums in float64 and a few numbers for each row; the rows stay in their file."""
        return 44 * k * dim + 44 * num_rows + 64 * 2**20

    def num_reports(self) -> int:
        """Those over all k, and the rounds of balancing."""
        return max(self.refine, 1) + (ROUNDS + 1 if self._is_balanced else 0)

    def num_products(self, num_rows: int, k: int) -> int:
        """With k^(1/levels) centroids on each level, with all k afterwards."""
        branches: float = k ** (1 / self.levels)
        rounds = ROUNDS + 1 if self._is_balanced else 0
        return num_rows * (self.levels * round(branches) * self.iterations + k * (self.refine + rounds))

    def fit(self, rows: Rows, k: int, seed: int, job: Fit) -> Clustering:
        """See ``KMeans.fit``; given first centroids are refined, at least once, in place of a division."""
        self.check(len(rows), k)
        if job.start is None:
            found, refine = self._divided(rows, k, seed, job), self.refine
        else:
            found, refine = Clustering(job.start, []), max(self.refine, 1)
        if refine:
            lloyd = LloydKMeans(iterations=refine, relocate=False, spherical=self.spherical)
            found = lloyd.fit(rows, k, seed, replace(job, start=found.centroids))
        else:
            job.watch.iteration(1, found.inertia[0])
        return self._balanced(rows, found, job) if self._is_balanced else found

    def check(self, num_rows: int, k: int) -> None:
        """Refuse bounds that so many rows cannot meet."""
        wrong = ""
        if self.min_size and k * self.min_size > num_rows:
            wrong = f"min_size={self.min_size}: choose up to {num_rows // k}"
        if self.max_size and k * self.max_size < num_rows:
            wrong = f"max_size={self.max_size}: choose {-(-num_rows // k)} or more"
        if wrong:
            raise ConfigError(f"cluster.engine.{wrong}, or another k: {k} clusters share {num_rows} rows")

    def _divided(self, rows: Rows, k: int, seed: int, job: Fit) -> Clustering:
        """The division, or what an earlier attempt has kept of it."""
        from cf_lightning.clustering.group import Group
        from cf_lightning.clustering.starts import Division

        file = job.folder / "division.npz" if job.folder else None
        if saved := Clustering.saved(file):
            return saved
        group = Group.current()
        division = Division(self.levels, self.iterations, self.spherical, job.device)
        centroids, inertia = division(rows, k, group, seed)
        found = Clustering(centroids, [inertia])
        if file and group.rank == 0:
            found.save(file)
        return found

    def _balanced(self, rows: Rows, found: Clustering, job: Fit) -> Clustering:
        """Move centroids until the sizes are within the bounds, or twenty rounds are over.

        The centroids do not move to the means of their rows any more: that would undo some of it.
        """
        from cf_lightning.clustering.group import Group
        from cf_lightning.clustering.loop import LloydLoop

        loop = LloydLoop(rows, found.centroids, Group.current(), job.device, self.spherical)
        inertia = list(found.inertia)
        for round_ in range(ROUNDS + 1):
            loop.assign()
            inertia.append(loop.inertia())
            job.watch.iteration(len(inertia), inertia[-1])
            sizes = loop.clusters.counts.astype(np.int64)
            parts = self._parts(sizes)
            if (parts == 1).all() or round_ == ROUNDS:
                break
            _move(loop, parts)
        if loop.group.rank == 0:
            self._warn(sizes)
        return Clustering(loop.centroids, inertia)

    def _parts(self, sizes: np.ndarray) -> np.ndarray:
        """(K,) int64 that add up to K: into how many clusters each one should be cut, 0 to dissolve it."""
        least, most = self.min_size or 0, self.max_size or int(sizes.max())
        parts = np.where(sizes < least, 0, np.maximum(1, -(-sizes // most)))
        while (lacking := parts.sum() - len(parts)) > 0:  # take where the fewest rows share what is left
            share = np.where(parts > 0, sizes / np.maximum(parts - 1, 1), np.inf)
            parts[np.argsort(share, kind="stable")[:lacking]] -= 1
        while (left := len(parts) - parts.sum()) > 0:  # add where the most do, if that is enough of them
            share = sizes / (parts + 1)
            best = np.argsort(-share, kind="stable")[:left]
            best = best[share[best] >= least]
            if not len(best):
                small = np.flatnonzero(parts == 0)
                best = small[np.argsort(-sizes[small], kind="stable")[:left]]
            parts[best] += 1
        return parts

    def _warn(self, sizes: np.ndarray) -> None:
        small = int((sizes < (self.min_size or 0)).sum())
        large = int((sizes > (self.max_size or sizes.max())).sum())
        if small or large:
            log.warning(
                "k-means: of %d clusters %d have fewer rows than min_size=%s and %d more than max_size=%s "
                "(%d to %d): rows that are alike or far from all others cannot always be shared out",
                *(len(sizes), small, self.min_size, large, self.max_size, sizes.min(), sizes.max()),
            )


def _move(loop: "LloydLoop", parts: np.ndarray) -> None:
    """Cut each cluster into its number of parts; the centroids of those with none go to the others."""
    from cf_lightning.clustering.starts import dealt

    places = np.repeat(np.arange(len(parts)), parts)
    is_first = np.diff(places, prepend=-1) > 0  # the first part of a cluster stays in its place
    places[~is_first] = np.flatnonzero(parts == 0)
    ends = np.cumsum(parts)
    found = np.zeros_like(loop.centroids)
    for cluster, positions in dealt(loop, parts > 1):
        own = places[ends[cluster] - parts[cluster] : ends[cluster]]
        found[own] = _slabs(loop.rows.take(positions), len(own))
    loop.group.sum(found)
    moved = places[np.repeat(parts > 1, parts)]
    centroids = loop.centroids.copy()
    centroids[moved] = found[moved] + 0.0  # -0.0 becomes 0.0, as it does where ranks are added
    loop.move(centroids)


def _slabs(rows: Rows, parts: int) -> np.ndarray:
    """(parts, D) float64: means of equally many rows each, that lie side by side along the longest axis.

    k-means would give most parts to the few rows around a dense core, and hardly cut the core. In float64 and
    without BLAS, so that the order of the rows along the axis does not depend on the number of threads.
    """
    mean = sum(block.sum(axis=0, dtype=np.float64) for _, block in rows.blocks()) / len(rows)
    axis = np.random.default_rng(0).standard_normal(rows.dim)
    for _ in range(POWER_ITERATIONS):
        total = np.zeros(rows.dim)
        for _, block in rows.blocks():
            offsets = block - mean
            total += np.einsum("nd,n->d", offsets, np.einsum("nd,d->n", offsets, axis))
        axis = total / max(float(np.linalg.norm(total)), 1e-300)
    along = np.concatenate([np.einsum("nd,d->n", block - mean, axis) for _, block in rows.blocks()])
    slab = np.empty(len(rows), np.int64)
    slab[np.argsort(along, kind="stable")] = np.arange(len(rows)) * parts // len(rows)
    sums = np.zeros((parts, rows.dim))
    for start, block in rows.blocks():
        np.add.at(sums, slab[start : start + len(block)], block)
    return np.asarray(sums / np.bincount(slab)[:, None])
