"""Scaled cosines with a margin."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from cf_lightning.heads.base import HeadRecipe

if TYPE_CHECKING:
    from cf_lightning.heads.head import Head


class Cosine(HeadRecipe):
    """Cosines instead of inner products (Wang et al. 2018, "CosFace", section 3.2).

    Attributes:
        scale: of a cosine to a logit.
        margin: what the cosine of a label has to be larger by, in training.
        near: in training a class whose cosine is above that and that is no label of the sample takes no
            part in its loss: likely the same thing in another cluster. ``null`` leaves none out. 0.75 in
            OneVision-Encoder (2026).
    """

    scale: float = Field(default=64.0, gt=0)
    margin: float = Field(default=0.3, ge=0, lt=2)
    near: float | None = Field(default=None, gt=-1, lt=1)

    def build(self, feature_dim: int, widths: Sequence[int]) -> "Head":
        """See ``HeadRecipe``."""
        from cf_lightning.heads.cosine_head import CosineHead

        return CosineHead(
            feature_dim, widths, scale=self.scale, margin=self.margin, near=self.near, rate=self.rate
        )
