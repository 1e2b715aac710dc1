"""The labels of a batch: one class each, several, or shares of them."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from cf_lightning.data.mix import partners

TINY = 1e-12  # what a sum of weights is at least, where there is none


@dataclass(frozen=True)
class Labels:
    """The classes of each sample and what each of them counts.

    Attributes:
        classes: (B, T) int64; -1 is none.
        weights: (B, T) float32, relative to the others of the same sample; 0 where there is none.
    """

    classes: Tensor
    weights: Tensor

    @classmethod
    def even(cls, targets: Tensor) -> Self:
        """Of (B,) or (B, T) int64 targets, filled up with -1, which all count the same."""
        classes = targets.view(len(targets), -1)
        return cls(classes, (classes >= 0).float())

    @property
    def shares(self) -> Tensor:
        """(B, T) float32: the weights of a sample as parts of 1; all 0 where it has no class."""
        return self.weights / self.weights.sum(1, keepdim=True).clamp(min=TINY)

    @property
    def known(self) -> Tensor:
        """(B,) bool: the samples that have a class."""
        return self.weights.sum(1) > 0

    def mixed(self, share: float) -> Self:
        """(B, 2T): so much of a sample's own labels, and the rest of its partner's.

        Args:
            share: of a sample's own image in what the network sees, as ``data.mix.Mix`` tells.
        """
        classes = torch.cat([self.classes, partners(self.classes)], dim=1)
        weights = torch.cat([share * self.shares, (1 - share) * partners(self.shares)], dim=1)
        return type(self)(classes, weights)
