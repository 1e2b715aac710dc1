"""k-means on a feature file: which rows it is fitted on, and the label of every row."""

import logging

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from cf_lightning.clustering.assignment import Assignment
from cf_lightning.clustering.base import Fit, KMeans
from cf_lightning.clustering.estimate import estimate
from cf_lightning.clustering.rows import Rows
from cf_lightning.clustering.space import FeatureSpace
from cf_lightning.config import Component
from cf_lightning.errors import ConfigError

log = logging.getLogger(__name__)


class Clusterer(Component):
    """The settings that ``KMeansCallback`` and the cluster stage share, and what they do.

    Attributes:
        k: number of clusters.
        engine: the k-means.
        space: how the features are prepared.
        max_points_per_centroid: fit on at most k times as many rows, drawn at random; ``null`` fits on all.
        seed: of the first centroids and of that draw.
    """

    k: int = Field(ge=1)
    engine: KMeans
    space: FeatureSpace = FeatureSpace()
    max_points_per_centroid: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @field_validator("space")
    @classmethod
    def _fits_the_engine(cls, space: FeatureSpace, info: ValidationInfo) -> FeatureSpace:
        engine = info.data.get("engine")
        if engine and engine.spherical and space.normalize == "none":
            raise ValueError("engine.spherical=true clusters directions, it needs space.normalize=l2")
        return space

    def cluster(
        self, features: np.ndarray, fit_rows: np.ndarray, skipped: np.ndarray, job: Fit
    ) -> Assignment:
        """Fit on some rows and assign every row.

        With an engine of RANKS ``all`` every process of the group calls this.

        Args:
            features: (N, D) float32 in the space, usually a memmap.
            fit_rows: (n,) int64 rows to fit on; those that were skipped are left out.
            skipped: (m,) int64 rows that hold no features; they get label -1.
            job: device, first centroids, folder, who is told.

        Raises:
            ConfigError: more clusters than rows, or than different rows, to fit on; too little memory.
        """
        from cf_lightning.clustering.group import ALONE, Group
        from cf_lightning.clustering.nearest import assign

        is_present = np.ones(len(features), dtype=bool)
        is_present[skipped] = False
        available = np.unique(fit_rows[is_present[fit_rows]])
        if self.k > len(available):
            raise ConfigError(f"k={self.k}: there are {len(available)} rows to fit on; choose k up to that")
        rows = Rows(features, self._draw(available))
        self._check_distinct(rows)
        job.watch.note(estimate(self.engine, rows, self.k, job.device))
        fitted = self.engine.fit(rows, self.k, self.seed, job)
        group = Group.current() if self.engine.RANKS == "all" else ALONE
        labels, distances = assign(
            Rows(features, np.flatnonzero(is_present)), fitted.centroids, job.device, group
        )
        return Assignment(fitted.centroids, labels, distances, fitted.inertia, available, rows.numbers)

    def _draw(self, available: np.ndarray) -> np.ndarray:
        """The rows to fit on, ascending: all, or a random subsample that is announced."""
        limit = None if self.max_points_per_centroid is None else self.k * self.max_points_per_centroid
        if limit is None or limit >= len(available):
            return available
        log.warning(
            "k-means is fitted on a random %d of %d rows (max_points_per_centroid=%d, k=%d)",
            *(limit, len(available), self.max_points_per_centroid, self.k),
        )
        drawn = np.random.default_rng(self.seed).choice(available, limit, replace=False, shuffle=False)
        return np.sort(drawn)

    def _check_distinct(self, rows: Rows) -> None:
        """More clusters than different rows cannot be; looks at no more rows than it takes to know."""
        seen: set[int] = set()
        for _, block in rows.blocks():
            for row in block:
                seen.add(hash(row.tobytes()))
                if len(seen) >= self.k:
                    return
        raise ConfigError(f"k={self.k}: only {len(seen)} of the {len(rows)} rows differ; choose k up to that")
