"""A 3D convolutional network that trains in seconds: tests and the ``demo`` scale."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from cf_lightning.models.base import TrunkRecipe

if TYPE_CHECKING:
    from cf_lightning.models.trunk import Trunk


class TinyVideoTrunk(TrunkRecipe):
    """Four 3D convolutions with batch normalisation and a global average pool.

    Attributes:
        width: channels of the first convolution; each further one doubles them.
    """

    TAKES: ClassVar[str] = "clips"

    width: int = Field(default=8, ge=1)

    def build(self) -> "Trunk":
        """The trunk with random weights from torch's global generator; D = 8 * width."""
        from torch import nn

        from cf_lightning.models.trunk import Trunk

        layers: list[nn.Module] = []
        channels = 3
        for stage in range(4):
            width = self.width * 2**stage
            stride = (2 if stage else 1, 2, 2)
            layers += [
                nn.Conv3d(channels, width, 3, stride, padding=1, bias=False),
                nn.BatchNorm3d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        network = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten())
        return Trunk(network, channels, clips=True)
