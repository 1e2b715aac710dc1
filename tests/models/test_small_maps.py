"""Gradients of convolutions over maps that are smaller than the kernel."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from cf_lightning.models.small_maps import in_float32


def gradient(conv: nn.Module, inputs: Tensor, wanted: Tensor, bf16: bool) -> Tensor:
    """Of the weights, in memory that an earlier tensor has left full of large numbers."""
    filled = [torch.full((size,), 1e30) for size in (1_000, 10_000, 100_000, 1_000_000)]
    del filled
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        outputs = conv(inputs)
    weights: Tensor = torch.autograd.grad(outputs, list(conv.parameters()), wanted.to(outputs.dtype))[0]
    return weights


@pytest.mark.parametrize(
    ("conv", "shape"),
    [
        pytest.param(
            nn.Conv3d(64, 48, (3, 1, 1), 1, (1, 0, 0), bias=False), (4, 64, 2, 4, 4), id="two frames"
        ),
        pytest.param(nn.Conv3d(64, 48, 3, 1, 1, bias=False), (4, 64, 2, 4, 4), id="two frames, 3x3x3"),
        pytest.param(nn.Conv2d(64, 64, 3, 2, 1, bias=False), (8, 64, 1, 1), id="one pixel, stride 2"),
        pytest.param(nn.Conv2d(256, 256, 7, 1, 3, bias=False), (8, 256, 2, 2), id="7x7 over 2x2"),
        pytest.param(nn.Conv2d(32, 32, 3, 1, 1, bias=False), (8, 32, 8, 8), id="larger than its kernel"),
    ],
)
def test_bf16_has_the_gradient_of_float32(conv: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(shape)
    wanted = torch.randn_like(conv(inputs))
    exact = gradient(deepcopy(conv).double(), inputs.double(), wanted.double(), bf16=False)
    in_float32(conv)
    for _ in range(5):
        error = gradient(conv, inputs, wanted, bf16=True) - exact
        assert error.norm() < 0.02 * exact.norm()


def test_only_small_maps_leave_bf16() -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1)
    in_float32(conv)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv(torch.randn(1, 3, 3, 3)).dtype == torch.bfloat16
        assert conv(torch.randn(1, 3, 2, 3)).dtype == torch.float32


def test_a_copy_computes_with_its_own_weights() -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1)
    in_float32(conv)
    copied = deepcopy(conv)
    nn.init.zeros_(copied.weight)
    nn.init.zeros_(copied.bias)
    inputs = torch.randn(1, 3, 8, 8)
    assert not copied(inputs).any()
    assert conv(inputs).any()
