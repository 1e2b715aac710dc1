"""What a training stage learns: a task turns an index into targets, and a batch into a loss."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cf_lightning.config import Component
from cf_lightning.data.index import Index, has_target
from cf_lightning.data.views import View

if TYPE_CHECKING:
    from torch import Tensor

    from cf_lightning.heads.head import Head
    from cf_lightning.heads.labels import Labels
    from cf_lightning.heads.scores import Scores
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
        """The targets of one network with a head for each of ``heads``, which have one head each.

        A row is drawn as often as the heads would draw it on average.
        """
        values = [one.values.reshape(len(one.values), -1) for one in heads.values()]
        drawn = [one.weights / one.weights.sum() for one in heads.values() if one.weights is not None]
        names = {head: list(one.names) for head, one in heads.items()}
        return cls(np.stack(values, axis=1), names, np.mean(drawn, axis=0) if drawn else None)

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
        DIVIDES: whether ``loss_of`` can do with classes that are divided among the devices.
    """

    OF_LABELS: ClassVar[bool] = False
    DIVIDES: ClassVar[bool] = True

    @property
    def not_linear(self) -> str:
        """What makes the loss not linear in its targets, so that none can be mixed; empty where it is."""
        return ""

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

    def build_head(self, feature_dim: int, widths: Sequence[int]) -> "Head":
        """From (B, feature_dim), or (B, P, feature_dim) of patches, to classes of one or several heads."""
        from cf_lightning.heads.head import Head

        return Head(feature_dim, widths)

    def labels_of(self, targets: "Tensor") -> "Labels":
        """What (B,) or (B, T) int64 targets of one head say; -1 is none."""
        from cf_lightning.heads.labels import Labels

        return Labels.even(targets)

    def loss_of(self, scores: "Scores", images: "Tensor") -> "Tensor":
        """The loss of each sample, (B,) float32.

        Args:
            scores: of one head.
            images: what the network saw.
        """
        from cf_lightning.losses.cross_entropy import CrossEntropy

        return CrossEntropy()(scores)

    def right(self, scores: "Scores", images: "Tensor") -> "Tensor":
        """(B,) bool: whether the first prediction of each sample is right."""
        return scores.first_is_right()
