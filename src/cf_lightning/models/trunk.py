"""The trunk: a network without its classifier, with the normalisation of its inputs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cf_lightning.errors import DataError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Trunk(nn.Module):
    """Images to features.

    ``forward`` takes (B, 3, H, W) uint8 and gives (B, feature_dim): the normalisation is part of the
    trunk, so that mean and std travel with the weights.

    Args:
        network: any module from normalised (B, 3, H, W) float to (B, feature_dim).
        feature_dim: D.
        mean: of the inputs, in [0, 1], RGB.
        std: of the inputs.
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
    ) -> None:
        super().__init__()
        self.network = network
        self.feature_dim = feature_dim
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 to (B, D)."""
        normalised = (images.float() / 255 - self.mean) / self.std
        features: Tensor = self.network(normalised.contiguous(memory_format=torch.channels_last))
        return features

    def layer(self, name: str) -> Callable[[Tensor], Tensor]:
        """A function like ``forward`` that gives the output of the sub-module ``name`` instead.

        Maps (B, C, h, w) are averaged over space, token sequences (B, T, C) over tokens.

        Raises:
            DataError: there is no such layer.
        """
        modules = dict(self.network.named_modules())
        if name not in modules or not name:
            top = ", ".join(key for key in modules if key and "." not in key)
            raise DataError(f"extract.layer={name}: no such layer; the top ones are {top}")
        caught: list[Tensor] = []

        def catch(module: nn.Module, inputs: Any, output: Tensor) -> None:
            caught.append(output)

        modules[name].register_forward_hook(catch)

        def features(images: Tensor) -> Tensor:
            caught.clear()
            self(images)
            output = caught.pop()
            if output.ndim == 4:
                return output.mean((2, 3))
            return output.mean(1) if output.ndim == 3 else output

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
