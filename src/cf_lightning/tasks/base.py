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
        values: (N,) int64; (N, T) int64 with up to T classes a sample, filled up with -1; or (N, H, T)
            int64 for H heads. Row i belongs to sample i, -1 is no target.
        names: what the classes are called; of several heads by the head's name, in the order of H.
        weights: (N,) float64, how often a training row is drawn; ``None`` once an epoch each.
    """

    values: np.ndarray
    names: list[str] | dict[str, list[str]]
    weights: np.ndarray | None = None

    @classmethod
    def stacked(cls, heads: "dict[str, Targets]") -> "Targets":
        """The targets of one network with a head for each of ``heads``, which draw their rows evenly."""
        if any(one.weights is not None or isinstance(one.names, dict) for one in heads.values()):
            raise ValueError(f"{', '.join(heads)}: only unweighted targets of one head each can be stacked")
        values = [one.values.reshape(len(one.values), -1) for one in heads.values()]
        return cls(np.stack(values, axis=1), {head: list(one.names) for head, one in heads.items()})

    @property
    def num_classes(self) -> int | dict[str, int]:
        """The width of the head, or of each head by its name."""
        if isinstance(self.names, list):
            return len(self.names)
        return {head: len(names) for head, names in self.names.items()}

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
        """The targets of one head.

        Args:
            data: the samples.
            labels: the folder of a cluster artifact, where there is one.
        """
