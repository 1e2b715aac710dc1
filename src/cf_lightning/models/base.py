"""What a ``model`` node is: a recipe that builds a randomly initialised trunk."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from cf_lightning.config import Component

if TYPE_CHECKING:
    from cf_lightning.models.trunk import Trunk


class TrunkRecipe(Component, ABC):
    """Settings of an architecture; weights come from an artifact's folder or from the seed."""

    @abstractmethod
    def build(self) -> "Trunk":
        """The trunk with random weights from torch's global generator."""

    def sized(self) -> "Trunk":
        """The trunk without weights (device ``meta``), for what a plan has to know of it beforehand."""
        import torch

        with torch.device("meta"):
            return self.build()
