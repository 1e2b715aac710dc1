"""The trunk: a network without its classifier, with the normalisation of its inputs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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

    def layer(self, name: str) -> Callable[[Tensor], Tensor]:
        """A function like ``forward`` that gives the output of the sub-module ``name`` instead.

        Maps (B, C, h, w) are averaged over space, maps of clips over time, too, and token sequences
        (B, T, C) over tokens.

        Raises:
            DataError: there is no such layer.
        """
        modules = dict(self.network.named_modules())
        if name not in modules or not name:
            top = ", ".join(key for key in modules if key and "." not in key)
            raise DataError(f"extract.layer={name}: no such layer; the top ones are {top}")
        caught: list[Any] = []

        def catch(module: nn.Module, inputs: Any, output: Any) -> None:
            caught.append(output)

        modules[name].register_forward_hook(catch)

        def features(inputs: Tensor) -> Tensor:
            caught.clear()
            self(inputs)
            output = caught.pop()
            if not isinstance(output, Tensor):
                raise DataError(f"extract.layer={name}: it gives a {type(output).__name__} and no tensor")
            if output.ndim > 2:
                output = output.mean(1 if output.ndim == 3 else tuple(range(2, output.ndim)))
            return output.reshape(*inputs.shape[: -self.axes], *output.shape[1:])

        return features

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
