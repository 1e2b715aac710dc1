"""A trunk as ONNX."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cf_lightning.errors import ConfigError
from cf_lightning.models.trunk import Trunk


class _Normalised(nn.Module):
    """Inputs in [0, 1] to features; mean and std are inside."""

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.network = trunk.network
        self.register_buffer("mean", trunk.mean)
        self.register_buffer("std", trunk.std)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network((inputs - self.mean) / self.std)  # type: ignore[no-any-return]


def write_onnx(trunk: Trunk, view: dict[str, Any], file: Path) -> None:
    """``inputs`` (B, 3, H, W) or (B, 3, T, H, W) float32 in [0, 1] to ``features`` (B, D); B is free.

    Args:
        trunk: in evaluation mode.
        view: gives H, W and T; 224 pixels and 8 frames where it does not.
        file: to write.

    Raises:
        ConfigError: the packages are missing, or ONNX lacks an operation of the network.
    """
    side = view.get("crop") or 224
    shape = (3, view.get("frames") or 8, side, side) if trunk.axes == 4 else (3, side, side)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        torch.onnx.export(
            _Normalised(trunk).eval(),
            (torch.rand(2, *shape),),
            file,
            input_names=["inputs"],
            output_names=["features"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    except ImportError as error:
        raise ConfigError(f"--onnx: {error}; pip install cf-lightning[onnx]") from None
    except torch.onnx.errors.OnnxExporterError as error:
        raise ConfigError(f"--onnx: this network cannot be written ({str(error).splitlines()[0]})") from error
