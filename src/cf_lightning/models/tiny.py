"""A convolutional network that trains in seconds: tests and the ``demo`` experiment."""

from typing import TYPE_CHECKING

from pydantic import Field

from cf_lightning.models.base import TrunkRecipe

if TYPE_CHECKING:
    from cf_lightning.models.trunk import Trunk


class TinyTrunk(TrunkRecipe):
    """Four convolutions with batch normalisation and a global average pool.

    Attributes:
        width: channels of the first convolution; each further one doubles them.
    """

    width: int = Field(default=16, ge=1)

    def build(self) -> "Trunk":
        """The trunk with random weights from torch's global generator; D = 8 * width."""
        from torch import nn

        from cf_lightning.models.trunk import Trunk

        layers: list[nn.Module] = []
        channels = 3
        for stage in range(4):
            width = self.width * 2**stage
            layers += [
                nn.Conv2d(channels, width, 3, stride=2 if stage else 1, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        return Trunk(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), channels)
