"""RotNet: by which of four angles an image is turned (Gidaris, Singh and Komodakis 2018)."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cf_lightning.data.index import Index
from cf_lightning.tasks.base import Targets, Task

if TYPE_CHECKING:
    from torch import Tensor

    from cf_lightning.tasks.draws import Draws


class Rotation(Task):
    """Each image is turned by 0, 90, 180 or 270 degrees, drawn anew in every epoch.

    One angle an image and epoch, as in VISSL; the original shows all four of them in one batch.
    """

    def targets(self, data: Index, **inputs: Path) -> Targets:
        """(N,) int64 of 0: every image takes part as it lies; ``batch`` turns it."""
        return Targets(np.zeros(len(data), dtype=np.int64), ["0°", "90°", "180°", "270°"])

    def batch(self, images: "Tensor", targets: "Tensor", draws: "Draws") -> "tuple[Tensor, Tensor]":
        """(B, 3, H, H) images, or (B, 3, T, H, H) clips, turned counter-clockwise, and (B,) quarter turns."""
        turns = draws.integers("turn", 4)[:, 0]
        turned = images.clone()
        for quarter in (1, 2, 3):
            chosen = turns == quarter
            turned[chosen] = images[chosen].rot90(quarter, (-2, -1))
        return turned, turns
