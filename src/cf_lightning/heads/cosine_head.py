"""``CosineHead``: classes are directions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cf_lightning.heads.head import Head
from cf_lightning.heads.labels import TINY
from cf_lightning.heads.scores import MASKED, is_column


class CosineHead(Head):
    """Logits are scaled cosines; in training those of the labels are lowered by a margin.

    Args:
        feature_dim: D.
        widths: classes of each head.
        scale: s, what a cosine is multiplied by.
        margin: m; the logit of a label is s (cos - m) in training.
        near: classes with a cosine above that, and no label of the sample, take no part in its loss.
        rate: as of ``Head``.
    """

    def __init__(
        self,
        feature_dim: int,
        widths: Sequence[int],
        *,
        scale: float,
        margin: float,
        near: float | None,
        rate: float = 1.0,
    ) -> None:
        super().__init__(feature_dim, widths, bias=False, rate=rate)
        self.scale, self.margin, self.near = scale, margin, near

    def reset_parameters(self) -> None:
        """Directions drawn evenly."""
        nn.init.normal_(self.weight, std=self.weight.shape[1] ** -0.5)

    def compare(self, features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, S) scaled cosines of (B, D) features and (S, D) classes."""
        # lengths divide the logits: a gradient through normalised classes would pass eight times over (S, D)
        lengths: Tensor = torch.linalg.vector_norm(weight, dim=1).clamp(min=TINY)
        return functional.linear(functional.normalize(features), weight) * (self.scale / lengths)

    def hardened(self, logits: Tensor, columns: Tensor) -> Tensor:
        """(B, S) with the margin, and without negatives that are as near as a positive should be."""
        is_label = is_column(columns, logits.shape[1])
        if self.near is not None:
            logits = logits.masked_fill(~is_label & (logits.detach() > self.scale * self.near), MASKED)
        return torch.where(is_label, logits - self.scale * self.margin, logits)
