"""Convolutions over maps that are smaller than their kernel, which processors do wrongly in bf16."""

from types import MethodType

import torch
from torch import Tensor, nn


def in_float32(network: nn.Module) -> None:
    """Let every convolution compute in float32 on a CPU where its input is smaller than its kernel.

    oneDNN's gradient of the weights in bf16 is wrong there, with memory in it that nobody has written (torch
    2.15, a processor with AVX512-BF16: 3x1x1 over two frames, 3x3 with stride 2 over one pixel); the training
    ends in NaN sooner or later. Such maps are small, so that float32 costs little.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]


def _forward(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d, inputs: Tensor) -> Tensor:
    forward = type(conv).forward
    sizes = zip(inputs.shape[2:], conv.kernel_size, strict=True)
    if torch.is_autocast_enabled("cpu") and any(size < kernel for size, kernel in sizes):
        with torch.autocast("cpu", enabled=False):
            return forward(conv, inputs.float())  # type: ignore[arg-type]
    return forward(conv, inputs)  # type: ignore[arg-type]
