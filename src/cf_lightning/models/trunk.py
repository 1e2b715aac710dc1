"""The trunk: a network without its classifier, with the normalisation of its inputs."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cf_lightning.errors import DataError
from cf_lightning.models.small_maps import in_float32

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Trunk(nn.Module):
    """Images or clips to features.

    ``forward`` takes uint8 (..., 3, H, W), or (..., 3, T, H, W) where it takes clips, and gives
    (..., feature_dim), whatever the leading axes: samples, their views, their patches. The normalisation is
    part of the trunk, so that mean and std travel with the weights.

    Args:
        network: any module from normalised (B, 3, H, W) or (B, 3, T, H, W) float to (B, feature_dim).
        feature_dim: D.
        mean: of the inputs, in [0, 1], RGB.
        std: of the inputs.
        clips: whether an input is a clip.
    """

    FILE = "trunk.safetensors"

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        feature_dim: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        clips: bool = False,
    ) -> None:
        super().__init__()
        in_float32(network)
        self.network = network
        self.feature_dim = feature_dim
        self.axes = 4 if clips else 3  # of a single input
        self.register_buffer("mean", torch.tensor(mean).view(3, *[1] * (self.axes - 1)))
        self.register_buffer("std", torch.tensor(std).view(3, *[1] * (self.axes - 1)))

    def channels_last(self) -> "Trunk":
        """The weights in the order with which convolutions are fastest; inputs always are."""
        self.network.to(memory_format=self._memory_format)  # of the normalisation nothing has that many axes
        return self

    @property
    def _memory_format(self) -> torch.memory_format:
        return torch.channels_last_3d if self.axes == 4 else torch.channels_last

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., 3, H, W) or (..., 3, T, H, W) uint8 to (..., D)."""
        batch = inputs.flatten(0, -self.axes - 1)
        normalised = (batch.float() / 255 - self.mean) / self.std
        features: Tensor = self.network(normalised.contiguous(memory_format=self._memory_format))
        return features.reshape(*inputs.shape[: -self.axes], *features.shape[1:])

    def save(self, folder: Path) -> None:
        """Write the weights, mean and std into an artifact's folder."""
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, folder / self.FILE)

    def load(self, folder: Path) -> "Trunk":
        """Read what ``save`` wrote; every tensor has to match.

        Raises:
            DataError: the weights belong to another architecture.
        """
        weights = load_file(folder / self.FILE)
        try:
            self.load_state_dict(weights)
        except RuntimeError as error:
            raise DataError(f"{folder / self.FILE} does not fit this model: {error}") from error
        return self
