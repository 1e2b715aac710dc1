"""Jigsaw: in which order the pieces of an image lie (Noroozi and Favaro 2016, in VISSL's recipe)."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, PrivateAttr

from cf_lightning.data.clip_view import ClipView
from cf_lightning.data.index import Index
from cf_lightning.data.views import View
from cf_lightning.errors import ConfigError
from cf_lightning.rows import open_rows
from cf_lightning.tasks.base import Targets, Task

if TYPE_CHECKING:
    from torch import Tensor

    from cf_lightning.heads.head import Head
    from cf_lightning.tasks.draws import Draws

LEAST_PATCH = 4  # pixels a side: less shows nothing


class Jigsaw(Task):
    """Patches from the cells of a grid, in one of P orders; the network says in which (Goyal et al. 2019).

    A patch is smaller than its cell and lies somewhere in it, and most images lose their colours: what
    the edges and the chromatic aberration of pieces tell is no help. The order, the places and the loss of
    colours are drawn anew in every epoch. Needs the artifact ``permutations``.

    Patches should be larger than the network's stride, 32 px for a ResNet. Where a map is a single pixel,
    3 x 3 convolutions see padding around it, and eight of their nine weights never learn: a ResNet-50 taught
    with patches of 16 px gave features beyond float16 on images of 64 px.

    Attributes:
        grid: cells to a side.
        patch: side of a patch as a share of its cell's.
        gray: probability of an image without colours.
        hidden: width to which each patch's features are brought before they are put side by side.
    """

    grid: int = Field(default=3, ge=2, le=3)
    patch: float = Field(default=64 / 85, ge=0.1, le=1)
    gray: float = Field(default=0.66, ge=0, le=1)
    hidden: int = Field(default=1000, ge=1)

    _orders: Any = PrivateAttr(default=None)  # (P, grid**2) int64, on the device of the last batch

    def check(self, data: Index, view: View) -> None:
        """The data gives images, and patches have something to show."""
        if isinstance(view, ClipView):
            raise ConfigError("task=Jigsaw: it cuts images, and the data gives clips; take pretrain=rotation")
        side = self._patch_side(view.crop)
        if side < LEAST_PATCH:
            enough = next(crop for crop in itertools.count() if self._patch_side(crop) >= LEAST_PATCH)
            raise ConfigError(
                f"view.crop={view.crop}: a grid of {self.grid} x {self.grid} leaves patches of {side} px a "
                f"side, which have to have {LEAST_PATCH}; set pretrain.view.crop to {enough} or more"
            )

    def targets(self, data: Index, **inputs: Path) -> Targets:
        """(N,) int64 of 0: every image takes part; ``batch`` draws its order. Classes are the orders."""
        names = [" ".join(map(str, order)) for order in self._read(inputs["permutations"])]
        return Targets(np.zeros(len(data), dtype=np.int64), names)

    def prepare(self, **inputs: Path) -> None:
        """Read the orders."""
        import torch

        self._orders = torch.from_numpy(self._read(inputs["permutations"]).astype(np.int64))

    def batch(self, images: "Tensor", targets: "Tensor", draws: "Draws") -> "tuple[Tensor, Tensor]":
        """(B, grid**2, 3, p, p) patches in their drawn order, and (B,) its number."""
        import torch

        cell, side = images.shape[-1] // self.grid, self._patch_side(images.shape[-1])
        self._orders = self._orders.to(images.device)
        number = draws.integers("order", len(self._orders))[:, 0]
        cells = self._orders[number]
        down, right = draws.integers("place", cell - side + 1, 2 * self.grid**2).chunk(2, dim=1)
        top, left = cells // self.grid * cell + down, cells % self.grid * cell + right
        windows = images.unfold(2, side, 1).unfold(3, side, 1)  # a view: (B, 3, tops, lefts, p, p)
        sample = torch.arange(len(images), device=images.device)[:, None]
        patches = windows[sample, :, top, left]
        return self._without_colours(patches, draws.uniform("gray") < self.gray), number

    def build_head(self, feature_dim: int, widths: Sequence[int]) -> "Head":
        """(B, grid**2, D): each patch to ``hidden``, the patches side by side, then one linear layer."""
        from torch import nn

        from cf_lightning.heads.head import Head

        embed = nn.Sequential(
            nn.Flatten(0, 1),
            nn.Linear(feature_dim, self.hidden),
            nn.BatchNorm1d(self.hidden),
            nn.ReLU(inplace=True),
            nn.Unflatten(0, (-1, self.grid**2)),
            nn.Flatten(1),
        )
        return Head(self.hidden * self.grid**2, widths, embed=embed)

    def _without_colours(self, patches: "Tensor", chosen: "Tensor") -> "Tensor":
        """Patches (B, P, 3, p, p), gray where (B, 1) ``chosen`` says so."""
        import torch
        from torchvision.transforms.v2.functional import rgb_to_grayscale

        gray: Tensor = rgb_to_grayscale(patches, num_output_channels=3)
        return torch.where(chosen[..., None, None, None], gray, patches)

    def _patch_side(self, image_side: int) -> int:
        """Pixels: 64 in the cells of 85 that an image of 255 has."""
        return round(self.patch * (image_side // self.grid))

    def _read(self, folder: Path) -> np.ndarray:
        """(P, grid**2) uint8, as the artifact has them."""
        orders: np.ndarray = open_rows(folder / "permutations.npy")
        if orders.shape[1] != self.grid**2:
            raise ConfigError(
                f"task.grid={self.grid} has {self.grid**2} pieces, the permutations have {orders.shape[1]}; "
                f"set needs.permutations.grid={self.grid}"
            )
        return orders
