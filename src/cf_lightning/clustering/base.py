"""What every k-means engine is: it finds the centroids of rows."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self
from zipfile import BadZipFile

import numpy as np
from pydantic import Field

from cf_lightning.clustering.rows import Rows
from cf_lightning.config import Component
from cf_lightning.errors import StoreError

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

    def save(self, file: Path) -> None:
        """Write an ``.npz`` file in one atomic step, so that a kill leaves a whole one."""
        draft = file.with_suffix(".new.npz")
        np.savez(draft, centroids=self.centroids, inertia=np.array(self.inertia))
        os.replace(draft, file)

    @classmethod
    def saved(cls, file: Path | None) -> Self | None:
        """What an earlier attempt has left in the file; ``None`` where there is nothing.

        Raises:
            StoreError: it is something else.
        """
        if file is None or not file.exists():
            return None
        try:
            with np.load(file, allow_pickle=False) as saved:
                return cls(saved["centroids"], saved["inertia"].tolist())
        except (OSError, ValueError, EOFError, KeyError, TypeError, BadZipFile) as error:
            raise StoreError(f"{file} cannot be read ({error}): remove it to begin the fit anew") from error


class Watch:
    """What a fit tells whoever is looking; this one is silent."""

    def note(self, line: str) -> None:
        """A line for people, before the fit starts."""

    def iteration(self, number: int, inertia: float) -> None:
        """An iteration is finished; numbers start at 1."""


SILENT = Watch()


@dataclass(frozen=True)
class Fit:
    """What a fit is given beside its rows; nothing of it is a setting of the engine.

    Attributes:
        device: where to compute.
        start: (K, D) float32 first centroids in place of the engine's own.
        folder: where an engine may keep what it needs to continue after a kill.
        watch: who is told of the progress, in every process.
    """

    device: Device = "cpu"
    start: np.ndarray | None = None
    folder: Path | None = None
    watch: Watch = SILENT


class KMeans(Component, ABC):
    """The contract of the engines; which rows they see, and in which space, is the ``Clusterer``'s business.

    Attributes:
        iterations: of Lloyd's algorithm; 50 as VISSL's ClusterFit.
        spherical: cosine k-means: rows and centroids have L2 norm 1.
        RANKS: ``all`` fits with every process of the group, ``one`` in a single one.
    """

    RANKS: ClassVar[Literal["all", "one"]] = "one"

    iterations: int = Field(default=50, ge=1)
    spherical: bool = False

    def check(self, num_rows: int, k: int) -> None:
        """Find what cannot be before anything runs.

        Raises:
            ConfigError: a setting that does not go with so many rows or clusters.
        """

    @abstractmethod
    def fit(self, rows: Rows, k: int, seed: int, job: Fit) -> Clustering:
        """Find ``k`` centroids of all rows, never of a subsample.

        Args:
            rows: n >= k finite rows; of norm 1 if ``spherical``.
            k: number of centroids.
            seed: of whatever is drawn.
            job: device, first centroids, folder, who is told.
        """

    @abstractmethod
    def memory_bytes(self, num_rows: int, dim: int, k: int) -> int:
        """What a fit keeps in memory at once, the file's own pages left out."""

    def num_reports(self) -> int:
        """How many iterations a fit reports at most."""
        return self.iterations

    def num_products(self, num_rows: int, k: int) -> int:
        """How many products of a row with a centroid a fit takes at most."""
        return num_rows * k * self.iterations
