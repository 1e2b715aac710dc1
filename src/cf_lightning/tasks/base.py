"""What a training stage learns: a task turns an index into targets, and a batch into a loss."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cf_lightning.config import Component
from cf_lightning.data.index import Index, has_target
from cf_lightning.data.views import View

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cf_lightning.tasks.draws import Draws


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
    """A pretext task; all but ``targets`` has a default, which is classification by a linear head.

    Attributes:
        OF_LABELS: whether its classes are labels or tags that the data brings, not some that it makes up.
    """

    OF_LABELS: ClassVar[bool] = False

    def check(self, data: Index, view: View) -> None:
        """Raise ``UserError`` when ``data`` cannot give targets, or images of that size no inputs."""

    @abstractmethod
    def targets(self, data: Index, **inputs: Path) -> Targets:
        """The targets of one head.

        Args:
            data: the samples.
            inputs: the folders of the artifacts that the task needs beside the data, by name.
        """

    def prepare(self, **inputs: Path) -> None:
        """Read what ``batch`` and ``score`` need of other artifacts, once, before the training."""

    def batch(self, images: "Tensor", targets: "Tensor", draws: "Draws") -> "tuple[Tensor, Tensor]":
        """What the network sees of a batch, and what it shall say.

        Args:
            images: (B, 3, H, W) uint8.
            targets: (B, ...) int64, of these samples.
            draws: the random numbers of these samples.

        Returns:
            (B, 3, h, w) uint8, or (B, P, 3, h, w) for P patches of each image; and (B, ...) int64.
        """
        return images, targets

    def head(self, feature_dim: int, num_classes: int) -> "nn.Module":
        """From (B, feature_dim), or (B, P, feature_dim) of patches, to (B, num_classes) logits."""
        from torch import nn

        return nn.Linear(feature_dim, num_classes)

    def score(self, logits: "Tensor", targets: "Tensor", images: "Tensor") -> "tuple[Tensor, Tensor]":
        """The loss of each sample, (B,) float32, and whether its first prediction is right, (B,) bool.

        Args:
            logits: (B, K) of one head.
            targets: (B,) or (B, T) int64 of the same head; -1 is none.
            images: what the network saw.
        """
        from cf_lightning.tasks.losses import cross_entropy, first_is_right

        return cross_entropy(logits, targets), first_is_right(logits, targets)
