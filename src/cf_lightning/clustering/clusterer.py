"""k-means on a feature file: which rows it is fitted on, in which space, and the label of every row."""

import logging
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from cf_lightning.clustering.assignment import Assignment
from cf_lightning.clustering.base import Device, KMeans
from cf_lightning.clustering.space import FeatureSpace
from cf_lightning.config import Component
from cf_lightning.errors import ConfigError

log = logging.getLogger(__name__)


class Clusterer(Component):
    """The settings that ``KMeansCallback`` and the cluster stage share, and what they do.

    Attributes:
        k: number of clusters.
        engine: the k-means.
        normalize: ``l2`` divides each row by its norm first, as VISSL does; spherical k-means needs it.
        max_points_per_centroid: fit on at most k times as many rows, drawn at random; ``null`` fits on all.
        seed: of the first centroids and of that draw.
    """

    k: int = Field(ge=1)
    engine: KMeans
    normalize: Literal["none", "l2"] = "l2"
    max_points_per_centroid: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @field_validator("normalize")
    @classmethod
    def _fits_the_engine(cls, value: str, info: ValidationInfo) -> str:
        engine = info.data.get("engine")
        if engine and engine.spherical and value == "none":
            raise ValueError("engine.spherical=true clusters directions, it needs l2")
        return value

    def cluster(
        self, features: np.ndarray, fit_rows: np.ndarray, skipped: np.ndarray, device: Device
    ) -> Assignment:
        """Fit on some rows and assign every row.

        The rows to fit on are held in memory once, as float32; everything else streams.

        Args:
            features: (N, D) float16 or float32, usually a memmap.
            fit_rows: (n,) int64 rows to fit on; those that were skipped are left out.
            skipped: (m,) int64 rows that hold no features; they get label -1.
            device: where the engine computes.

        Raises:
            ConfigError: more clusters than rows to fit on, or those rows do not fit into memory.
            DataError: NaN, Inf, or zeros that cannot be normalised, in any row.
        """
        is_present = np.ones(len(features), dtype=bool)
        is_present[skipped] = False
        available = np.unique(fit_rows[is_present[fit_rows]])
        if self.k > len(available):
            raise ConfigError(f"k={self.k}: there are {len(available)} rows to fit on; choose k up to that")
        space = FeatureSpace(features, self.normalize == "l2")
        present = np.flatnonzero(is_present)
        space.check(present)
        used = self._draw(available)
        self._check_memory(space, len(used))
        fitted = self.engine.fit(space.load(used), self.k, self.seed, device)

        labels = np.full(len(features), -1, dtype=np.int64)
        distances = np.full(len(features), np.nan, dtype=np.float32)
        start = 0
        for nearest, squared in self.engine.assign(space.chunks(present), fitted.centroids, device):
            rows = present[start : start + len(nearest)]
            labels[rows], distances[rows] = nearest, squared
            start += len(nearest)
        return Assignment(fitted.centroids, labels, distances, fitted.inertia, available, used)

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

    def _check_memory(self, space: FeatureSpace, num_rows: int) -> None:
        needed, free = space.num_bytes(num_rows), _free_memory()
        if free is not None and needed > free:
            most = free // space.num_bytes(self.k)
            hint = f"set max_points_per_centroid={most} or less" if most else "choose a smaller k"
            raise ConfigError(
                f"k={self.k}: {num_rows} rows to fit on need {needed / 1e9:.1f} GB of memory as float32, "
                f"and {free / 1e9:.1f} GB are free; {hint}"
            )


def _free_memory() -> int | None:
    """Bytes that the machine has free and the container allows; ``None`` where that is unknown."""
    meminfo, limit = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    if not meminfo.exists():
        return None
    lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        free = min(free, int(text))
    return free
