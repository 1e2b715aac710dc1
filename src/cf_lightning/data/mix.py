"""Mixup and CutMix of a training batch, drawn alike on every rank."""

from typing import TYPE_CHECKING

from pydantic import Field

from cf_lightning.config import Component
from cf_lightning.data.seeding import seeded

if TYPE_CHECKING:
    from torch import Tensor


class Mix(Component):
    """Each image of a batch together with another one of it, in shares that are the whole batch's.

    With both on, each batch is mixed in one of the two ways, by a fair draw. The share is drawn from
    Beta(alpha, alpha); 0 switches a way off.

    Sample q of a batch of B goes with q + B/2, and all draws follow from (seed, step) alone. A global batch
    is dealt to R ranks in turn, so a sample's partner is the same for every R that divides B/2.

    Attributes:
        mixup: alpha of Mixup, the weighted mean of two images (Zhang et al. 2018).
        cutmix: alpha of CutMix, a rectangle of the one in the other (Yun et al. 2019).
    """

    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)

    @property
    def on(self) -> bool:
        """Whether anything is mixed."""
        return self.mixup > 0 or self.cutmix > 0

    def __call__(self, images: "Tensor", seed: int, step: int) -> "tuple[Tensor, float]":
        """Mix a batch; to be called where ``on``, on any device.

        Args:
            images: (B, 3, H, W) uint8, or clips (B, 3, T, H, W), or patches (B, P, 3, H, W); B even.
            seed: of the training.
            step: of the training, counted over all epochs.

        Returns:
            float32 in [0, 255] of the same shape, and the share of each sample's own image in it, which
            its own target has too; the rest is its partner's.
        """
        import torch
        from torchvision.transforms import v2

        if len(images) % 2:
            raise ValueError(f"a batch of {len(images)} images has no two halves to mix")
        ways = [(v2.MixUp, self.mixup), (v2.CutMix, self.cutmix)]
        mix = v2.RandomChoice([way(alpha=alpha, num_classes=2) for way, alpha in ways if alpha])
        # torchvision mixes neighbours: the halves are two of them, their images channels; uint8 it cannot
        halves = images.float().reshape(2, -1, *images.shape[-2:])
        with seeded([seed, step], stream=(0,)):  # not that of the augmentation, which has the same seed
            mixed, shares = mix(halves, torch.arange(2))
        return mixed.reshape(images.shape), float(shares[0, 0])


def partners(values: "Tensor") -> "Tensor":
    """(B, ...): of each sample what its partner has."""
    return values.roll(len(values) // 2, 0)
