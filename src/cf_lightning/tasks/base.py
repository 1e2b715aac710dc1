"""What a training stage learns: a task turns an index into targets, row by row."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cf_lightning.config import Component
from cf_lightning.data.index import Index, has_target


@dataclass(frozen=True)
class Targets:
    """The targets of every row of an index.

    Attributes:
        values: (N,) int64, or (N, T) int64 with up to T classes a sample, filled up with -1; row i
            belongs to sample i, -1 is no target.
        names: what the classes are called; their number is the width of the head.
        weights: (N,) float64, how often a training row is drawn; ``None`` once an epoch each.
    """

    values: np.ndarray
    names: list[str]
    weights: np.ndarray | None = None

    @property
    def known(self) -> np.ndarray:
        """(N,) bool: the rows that have a target."""
        return has_target(self.values)


class Task(Component, ABC):
    """A pretext task over labels, tags or clusters."""

    def check(self, data: Index) -> None:
        """Raise ``UserError`` when ``data`` cannot give targets."""

    @abstractmethod
    def targets(self, data: Index, labels: Path | None = None) -> Targets:
        """The targets of ``data``; ``labels`` is a cluster artifact's folder where the task needs one."""
