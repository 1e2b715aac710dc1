"""What a head is made from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from cf_lightning.config import Component

if TYPE_CHECKING:
    from cf_lightning.heads.head import Head


class HeadRecipe(Component, ABC):
    """How features are compared with classes.

    Attributes:
        rate: below 1, the probability that a class without a sample in the batch takes part in a step.
    """

    rate: float = Field(default=1.0, gt=0, le=1)

    @abstractmethod
    def build(self, feature_dim: int, widths: Sequence[int]) -> "Head":
        """A head with random weights for (B, feature_dim) features and classes of these numbers."""
