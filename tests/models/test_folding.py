"""Batch norm within convolutions: the same outputs, whatever the network is like."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cf_lightning.models.base import TrunkRecipe
from cf_lightning.models.folding import fold_batch_norm
from cf_lightning.models.layers import Layers
from cf_lightning.models.r2plus1d import R2Plus1D
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.models.torchvision import TorchvisionTrunk
from cf_lightning.models.trunk import Trunk

NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def trained(recipe: TrunkRecipe) -> Trunk:
    """With statistics as after a training: means beside zero, variances beside one."""
    torch.manual_seed(0)
    trunk = recipe.build().eval()
    for module in trunk.modules():
        if isinstance(module, NORMS):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return trunk


def inputs(trunk: Trunk) -> Tensor:
    shape = (2, 3, 4, 32, 32) if trunk.axes == 4 else (2, 3, 64, 64)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("recipe", "folded", "left"),
    [
        (TinyTrunk(width=4), 4, 0),
        (TorchvisionTrunk(name="resnet18"), 20, 0),
        (TorchvisionTrunk(name="mobilenet_v3_small"), 34, 0),
        (TorchvisionTrunk(name="densenet121"), 59, 62),  # most of its norms come before their convolution
        (R2Plus1D(depth=18), 37, 0),
    ],
    ids=repr,
)
def test_the_outputs_stay_and_the_norms_that_follow_a_convolution_go(
    recipe: TrunkRecipe, folded: int, left: int
) -> None:
    trunk = trained(recipe)
    before = trunk(inputs(trunk))
    assert fold_batch_norm(trunk.network) == folded
    assert sum(isinstance(module, NORMS) for module in trunk.modules()) == left
    torch.testing.assert_close(trunk(inputs(trunk)), before, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_in_bf16_it_is_as_near_to_float32_as_without() -> None:
    trunk = trained(TorchvisionTrunk(name="resnet18"))
    exact = trunk(inputs(trunk))

    def error() -> float:
        with torch.autocast("cpu", torch.bfloat16):
            return float((trunk(inputs(trunk)).float() - exact).norm() / exact.norm())

    without = error()
    fold_batch_norm(trunk.network)
    assert error() < 1.1 * without < 0.1


def test_a_layer_that_is_wanted_keeps_its_own_output() -> None:
    trunk = trained(TorchvisionTrunk(name="resnet18"))
    names = ["conv1", "bn1", "layer2", "avgpool"]
    before = Layers(trunk, names)(inputs(trunk))
    again = trained(TorchvisionTrunk(name="resnet18"))
    assert fold_batch_norm(again.network, keep=names) == 19
    for one, other in zip(Layers(again, names)(inputs(trunk)), before, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


class Twice(nn.Module):
    """Uses one convolution for two norms, and adds what the other one gives to its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.seen = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.one, self.two, self.third = (nn.BatchNorm2d(3, momentum=1.0) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        seen = self.seen(x)
        return self.one(self.shared(x)) + self.two(self.shared(x + 1)) + seen + self.third(seen)


class Decides(nn.Sequential):
    """Looks at values, which cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.mean() > 0 else x  # type: ignore[no-any-return]


@pytest.mark.parametrize("make", [Twice, lambda: Decides(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))])
def test_a_network_that_it_does_not_understand_is_left_alone(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    network = make()
    x = torch.randn(4, 3, 8, 8)
    network(x + 5)
    network.eval()
    before = network(x)
    assert fold_batch_norm(network) == 0
    assert torch.equal(network(x), before)
