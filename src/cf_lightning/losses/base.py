"""What a loss is."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from cf_lightning.config import Component

if TYPE_CHECKING:
    from torch import Tensor

    from cf_lightning.heads.scores import Scores


class Loss(Component, ABC):
    """From logits and labels to a loss of each sample.

    Attributes:
        LINEAR: whether it is linear in the shares of the labels: mixed images and soft targets need that.
    """

    LINEAR: ClassVar[bool]

    @abstractmethod
    def __call__(self, scores: "Scores") -> "Tensor":
        """(B,) float32, 0 where a sample has no label."""
