"""A linear layer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cf_lightning.heads.base import HeadRecipe

if TYPE_CHECKING:
    from cf_lightning.heads.head import Head


class Linear(HeadRecipe):
    """Inner products with a bias, as Yan et al. 2020."""

    def build(self, feature_dim: int, widths: Sequence[int]) -> "Head":
        """See ``HeadRecipe``."""
        from cf_lightning.heads.head import Head

        return Head(feature_dim, widths, rate=self.rate)
