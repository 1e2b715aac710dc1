"""Batch normalisation over all ranks, of timm's networks, too, which have the activation within it."""

import copy

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct
from torch import nn

from cf_lightning.models.sync_batchnorm import GlooBatchNormAct, convert
from cf_lightning.models.timm import TimmTrunk
from cf_lightning.models.trunk import Trunk

IMAGES = torch.randint(256, (8, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def trunk() -> Trunk:
    torch.manual_seed(0)
    trunk = TimmTrunk(name="test_efficientnet").build()
    assert any(type(module) is BatchNormAct2d for module in trunk.modules())
    return trunk


@pytest.mark.usefixtures("one_rank")
def test_one_rank_computes_what_the_network_itself_does(trunk: Trunk) -> None:
    ranks = copy.deepcopy(trunk)
    convert(ranks)
    assert any(type(module) is GlooBatchNormAct for module in ranks.modules())
    assert not any(type(module) in (nn.BatchNorm2d, BatchNormAct2d) for module in ranks.modules())
    for network in (trunk, ranks):
        network(IMAGES).square().sum().backward()
    torch.testing.assert_close(ranks(IMAGES), trunk(IMAGES), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ranks.state_dict(), trunk.state_dict(), rtol=1e-4, atol=1e-4)
    for one, other in zip(ranks.parameters(), trunk.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-3)


def test_on_gpus_it_is_torchs_and_keeps_the_activation(trunk: Trunk) -> None:
    trunk.eval()
    before = trunk(IMAGES)
    names = list(trunk.state_dict())
    converted = convert(trunk, "cuda")
    assert any(type(module) is SyncBatchNormAct for module in converted.modules())
    assert list(converted.state_dict()) == names
    assert torch.equal(converted(IMAGES), before)
