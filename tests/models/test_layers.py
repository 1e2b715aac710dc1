"""Features of inner layers: which numbers they are, for maps in every order of axes."""

import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d
from torchvision import models

from cf_lightning.errors import ConfigError
from cf_lightning.models.layers import PUBLISHED, Layers, grid
from cf_lightning.models.timm import TimmTrunk
from cf_lightning.models.torchvision import TorchvisionTrunk
from cf_lightning.models.torchvision_video import TorchvisionVideoTrunk
from cf_lightning.models.trunk import Trunk

IMAGES = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_without_a_grid_a_layer_is_the_mean_of_its_map() -> None:
    trunk = TorchvisionTrunk(name="resnet18").build().eval()
    layer3, layer4 = Layers(trunk, ["layer3", "layer4"])(IMAGES)
    assert layer3.shape == (2, 256)
    torch.testing.assert_close(layer4, trunk(IMAGES))


def test_the_published_pooling_of_resnet50_at_224() -> None:
    """The table of the papers: 9216, 9216, 8192, 9216 and 8192 numbers, of overlapping windows."""
    found = {shape: grid(torch.rand(1, *shape), 9216).shape[1] for shape in PUBLISHED}
    assert list(found.values()) == [9216, 9216, 8192, 9216, 8192]
    maps = torch.rand(2, 2048, 7, 7)
    corner = maps[:, :, 1:, :6].mean((2, 3))  # of four windows of 6 x 6 the one below on the left
    torch.testing.assert_close(grid(maps, 9216).view(2, 2048, 2, 2)[:, :, 1, 0], corner)
    torch.testing.assert_close(
        grid(torch.ones(1, 64, 112, 112), 9216), avg_pool2d(torch.ones(1, 64, 112, 112), 10, 10, 4).flatten(1)
    )


@pytest.mark.parametrize(("shape", "side"), [((512, 7, 7), 4), ((512, 2, 3), 2), ((20000, 3, 3), 1)])
def test_any_other_map_becomes_the_finest_grid_that_fits(shape: tuple[int, ...], side: int) -> None:
    assert grid(torch.rand(1, *shape), 9216).shape == (1, shape[0] * side * side)


@torch.inference_mode()
def test_layers_of_one_pass_are_those_of_each_by_itself() -> None:
    trunk = TorchvisionTrunk(name="resnet18").build().eval()
    names = ["relu", "layer1", "layer2", "layer3", "layer4"]
    together = Layers(trunk, names, 512)(IMAGES)
    assert [one.shape[1] for one in together] == [64 * 4, 64 * 4, 128 * 4, 256, 512]
    for name, features in zip(names, together, strict=True):
        assert torch.equal(features, Layers(trunk, [name], 512)(IMAGES)[0])


@torch.inference_mode()
def test_views_keep_their_axis() -> None:
    trunk = TorchvisionTrunk(name="resnet18").build().eval()
    views = torch.stack([IMAGES, IMAGES.flip(-1)], dim=1)
    (found,) = Layers(trunk, ["layer2"])(views)
    assert found.shape == (2, 2, 128)
    torch.testing.assert_close(found[:, 0], Layers(trunk, ["layer2"])(IMAGES)[0])


def swin() -> Trunk:
    return TorchvisionTrunk(name="swin_t").build().eval()


def swin_of_timm() -> Trunk:
    """A small one of this family; its axes are what timm says of it."""
    from timm.models.swin_transformer import SwinTransformer

    network = SwinTransformer(
        img_size=64, patch_size=4, embed_dim=16, depths=(1, 1), num_heads=(1, 2), window_size=4, num_classes=0
    )
    return Trunk(network, 32).eval()


@torch.inference_mode()
@pytest.mark.parametrize(
    ("build", "layer", "dim"), [(swin, "features.1", 96), (swin, "norm", 768), (swin_of_timm, "layers.0", 16)]
)
def test_maps_of_swin_have_their_channels_last(build: type, layer: str, dim: int) -> None:
    trunk: Trunk = build()
    caught: list[torch.Tensor] = []
    trunk.network.get_submodule(layer).register_forward_hook(lambda m, i, o: caught.append(o))
    (found,) = Layers(trunk, [layer])(IMAGES)
    assert found.shape == (2, dim)
    torch.testing.assert_close(found, caught[0].mean((1, 2)))


@torch.inference_mode()
def test_clips_of_swin_are_averaged_over_time_and_space() -> None:
    trunk = TorchvisionVideoTrunk(name="swin3d_t").build().eval()
    assert isinstance(trunk.network, models.video.SwinTransformer3d)
    clips = torch.zeros(1, 3, 4, 32, 32, dtype=torch.uint8)
    assert [one.shape for one in Layers(trunk, ["features.0"], 9216)(clips)] == [(1, 96 * 8 * 8)]


@torch.inference_mode()
def test_a_transformers_block_is_the_mean_of_its_tokens() -> None:
    trunk = TimmTrunk(name="test_vit").build().eval()
    block, norm = Layers(trunk, ["blocks.0", "norm"])(IMAGES)
    assert block.shape == (2, 64)
    tokens = trunk.network.forward_features((IMAGES / 255 - trunk.mean) / trunk.std)
    torch.testing.assert_close(norm, tokens.mean(1))


def test_a_layer_that_is_not_there_or_gives_nothing() -> None:
    trunk = TorchvisionTrunk(name="resnet18").build().eval()
    with pytest.raises(
        ConfigError, match=r"layers=\[layer9\]: the network has no such layer; it has conv1, .*layer4"
    ):
        Layers(trunk, ["layer4", "layer9"])
    trunk.network.add_module("idle", nn.Identity())
    with pytest.raises(ConfigError, match=r"layers=\['idle'\]: no part of the forward pass"):
        Layers(trunk, ["idle"])(IMAGES)


@torch.inference_mode()
def test_a_layer_before_one_that_works_in_place() -> None:
    trunk = TorchvisionTrunk(name="resnet18").build().eval()
    assert trunk.network.get_submodule("relu").inplace
    before, after = Layers(trunk, ["bn1", "relu"])(IMAGES)
    assert before.min() < 0 <= after.min()
