from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.video.resnet import BasicBlock, BasicStem, Conv3DSimple, VideoResNet

from cf_lightning.errors import ConfigError
from cf_lightning.models.base import TrunkRecipe
from cf_lightning.models.r2plus1d import BLOCKS, R2Plus1D, middle_width
from cf_lightning.models.sync_batchnorm import GlooBatchNorm, convert
from cf_lightning.models.tiny_video import TinyVideoTrunk
from cf_lightning.models.torchvision import TorchvisionTrunk
from cf_lightning.models.torchvision_video import TorchvisionVideoTrunk

KINETICS_MEAN = [0.43216, 0.394666, 0.37645]


def clips(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("recipe", "dim"),
    [
        (TinyVideoTrunk(width=4), 32),
        (R2Plus1D(depth=18), 512),
        (R2Plus1D(depth=34), 512),
        *((TorchvisionVideoTrunk(name=name), 512) for name in ("r3d_18", "mc3_18", "r2plus1d_18")),
        (TorchvisionVideoTrunk(name="swin3d_t"), 768),
    ],
)
@torch.no_grad()
def test_clips_of_8_16_and_32_frames_go_through(recipe: TrunkRecipe, dim: int) -> None:
    assert recipe.TAKES == "clips"
    trunk = recipe.build().eval()
    assert trunk.feature_dim == dim
    for frames in (8, 16, 32):
        features = trunk(clips(2, 3, frames, 32, 32))
        assert features.shape == (2, dim)
        assert not torch.allclose(features[0], features[1])


@pytest.mark.parametrize("frames", [8, 16, 32])
@torch.no_grad()
def test_an_mvit_is_built_for_a_shape(frames: int) -> None:
    trunk = TorchvisionVideoTrunk(name="mvit_v2_s", image_size=32, frames=frames).build().eval()
    features = trunk(clips(2, 3, frames, 32, 32))
    assert features.shape == (2, trunk.feature_dim) == (2, 768)
    assert not torch.allclose(features[0], features[1])


# on the device meta: too large, or made for clips too large, for a test to compute
@pytest.mark.parametrize(
    ("name", "dim", "shape"),
    [
        ("swin3d_s", 768, (8, 112, 112)),
        ("swin3d_b", 1024, (32, 224, 224)),
        ("mvit_v1_b", 768, (16, 224, 224)),
        ("mvit_v2_s", 768, (16, 224, 224)),
        ("s3d", 1024, (32, 256, 256)),
    ],
)
@torch.no_grad()
def test_shapes_of_the_large_networks(name: str, dim: int, shape: tuple[int, int, int]) -> None:
    trunk = TorchvisionVideoTrunk(name=name).sized().eval()
    assert trunk.feature_dim == dim
    assert trunk(torch.zeros(2, 3, *shape, dtype=torch.uint8, device="meta")).shape == (2, dim)


@pytest.mark.parametrize("name", models.list_models(module=models.video))
def test_nothing_but_the_classifier_is_missing(name: str) -> None:
    with torch.device("meta"):
        whole = models.get_model(name)
    trunk = TorchvisionVideoTrunk(name=name).sized()
    shapes = {key: tensor.shape for key, tensor in trunk.network.state_dict().items()}
    missing = {k: t for k, t in whole.state_dict().items() if k not in shapes}
    assert sorted(t.shape[0] for t in missing.values()) == [400, 400]  # weight and bias of the classes
    assert shapes == {k: t.shape for k, t in whole.state_dict().items() if k not in missing}
    ours, theirs = (
        [(type(m).__name__, m.extra_repr()) for m in network.modules()] for network in (trunk.network, whole)
    )
    different = [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]]
    assert [one for (one, _), _ in different] == ["Identity"]


def test_s3ds_convolutional_classifier_reads_the_features() -> None:
    whole = models.get_model("s3d").eval()
    trunk = TorchvisionVideoTrunk(name="s3d").build().eval()
    trunk.network.load_state_dict(whole.state_dict(), strict=False)
    images = clips(1, 3, 16, 224, 224)
    with torch.no_grad():
        scores = whole((images / 255 - trunk.mean) / trunk.std)
        again = whole.classifier(trunk(images)[..., None, None, None]).flatten(1)
    torch.testing.assert_close(again, scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "shape", "said"),
    [
        (
            {"name": "s3d"},
            (8, 224, 224),
            "8 frames of 224x224 px: the network takes 14 frames of 224x224; set ",
        ),
        ({"name": "s3d"}, (16, 112, 112), "16 frames of 112x112 px: .* data.view.crop to these or more"),
        (
            {"name": "mvit_v2_s"},
            (8, 224, 224),
            "takes 16 frames of 224x224; set frames and image_size of mvit",
        ),
        # as many tokens as the network's own shape has
        ({"name": "mvit_v1_b"}, (64, 112, 112), "64 frames of 112x112 px: the network takes 16 frames"),
        ({"name": "mvit_v1_b", "frames": 8}, (16, 224, 224), "the network takes 8 frames of 224x224"),
    ],
)
def test_clips_of_a_shape_that_a_network_cannot_take(
    settings: dict[str, Any], shape: tuple[int, int, int], said: str
) -> None:
    trunk = TorchvisionVideoTrunk(**settings).sized().eval()
    with pytest.raises(ConfigError, match=f"^clips of .*{said}"):
        trunk(torch.zeros(1, 3, *shape, dtype=torch.uint8, device="meta"))


def test_names_and_settings_that_are_wrong() -> None:
    with pytest.raises(ConfigError, match=r"model.name=r3d_19: not a torchvision video network; .*r3d_18"):
        TorchvisionVideoTrunk(name="r3d_19").build()
    with pytest.raises(ConfigError, match="not a torchvision classification network"):
        TorchvisionTrunk(name="r3d_18").build()
    with pytest.raises(ConfigError, match=r"model.frames=8: swin3d_t is not .* leave it null"):
        TorchvisionVideoTrunk(name="swin3d_t", frames=8).build()
    with pytest.raises(ConfigError, match=r"model.image_size=64: s3d is not built"):
        TorchvisionVideoTrunk(name="s3d", image_size=64).build()
    with pytest.raises(ValueError, match="multiple of 4"):
        TorchvisionVideoTrunk(name="mvit_v2_s", image_size=66)


def test_published_weights_with_their_mean_and_std(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = models.get_model_weights("s3d").DEFAULT
    state = models.get_model("s3d").state_dict()
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(state, tmp_path / "checkpoints" / Path(published.url).name)
    trunk, tag = TorchvisionVideoTrunk(name="s3d").pretrained("DEFAULT")
    assert tag == "KINETICS400_V1"
    assert all(torch.equal(tensor, state[name]) for name, tensor in trunk.network.state_dict().items())
    assert trunk.mean.flatten().tolist() == pytest.approx(KINETICS_MEAN)
    with pytest.raises(ConfigError, match="weights=V9: of s3d torchvision has KINETICS400_V1"):
        TorchvisionVideoTrunk(name="s3d").pretrained("V9")


def by_hand(depth: int) -> int:
    """Weights of R(2+1)D and 400 classes: section 3.5's rule for each convolution, batch norms, shortcuts."""
    total = 3 * 49 * 45 + 2 * 45 + 45 * 3 * 64 + 2 * 64
    before = 64
    for stage, blocks in enumerate({18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}[depth]):
        after = 64 * 2**stage
        total += before * after + 2 * after if stage else 0
        for _ in range(2 * blocks):
            middle = 27 * before * after // (9 * before + 3 * after)
            total += 9 * before * middle + 2 * middle + 3 * middle * after + 2 * after
            before = after
    return total + 512 * 400 + 400


@pytest.mark.parametrize(("depth", "published"), [(18, 33.4e6), (34, 63.7e6)])
def test_r2plus1d_has_the_weights_of_the_published_rule(depth: Any, published: float) -> None:
    trunk = R2Plus1D(depth=depth).sized()
    count = weights(trunk) + 512 * 400 + 400
    assert count == by_hand(depth) == pytest.approx(published, rel=2e-3)
    with torch.device("meta"):
        r3d = VideoResNet(BasicBlock, [Conv3DSimple] * 4, BLOCKS[depth], BasicStem)
    assert count == pytest.approx(weights(r3d), rel=1e-3)  # what the rule is for


def test_the_rules_widths_and_torchvisions() -> None:
    widths = [middle_width(*pair) for pair in ((64, 64), (64, 128), (128, 128), (256, 512), (512, 512))]
    assert widths == [144, 230, 288, 921, 1152]
    assert middle_width(3, 64, d=7) == 83  # where the authors have 45
    ours = R2Plus1D(depth=18).sized().network.state_dict()
    theirs = TorchvisionVideoTrunk(name="r2plus1d_18").sized().network.state_dict()
    assert list(ours) == list(theirs)
    other = {name.rsplit(".", 3)[0] for name in ours if ours[name].shape != theirs[name].shape}
    assert {name[: len("layerN.0.conv2")] for name in other} == {f"layer{n}.0.conv2" for n in (2, 3, 4)}


def test_mean_and_std_belong_to_the_architecture() -> None:
    trunk = R2Plus1D(depth=18).build()
    assert trunk.mean.flatten().tolist() == pytest.approx(KINETICS_MEAN)
    trunk = TorchvisionVideoTrunk(name="mvit_v2_s", image_size=32, frames=8).build()
    assert trunk.std.flatten().tolist() == pytest.approx([0.225] * 3)


@torch.no_grad()
def test_weights_survive_the_file(tmp_path: Path) -> None:
    trunk = R2Plus1D(depth=18).build().eval()
    trunk.save(tmp_path)
    loaded = R2Plus1D(depth=18).build().eval().load(tmp_path)
    images = clips(1, 3, 8, 32, 32)
    assert torch.equal(loaded(images), trunk(images))


@pytest.mark.parametrize("recipe", [R2Plus1D(depth=18), TorchvisionVideoTrunk(name="swin3d_t")])
@torch.no_grad()
def test_channels_last_gives_the_same_features(recipe: TrunkRecipe) -> None:
    trunk = recipe.build().eval()
    trunk.network.to(memory_format=torch.channels_last_3d)
    seen: list[Tensor] = []
    hook = trunk.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = clips(2, 3, 8, 32, 32)
    features = trunk(images)
    hook.remove()
    assert seen[0].is_contiguous(memory_format=torch.channels_last_3d)
    same = recipe.build().eval().network
    same.load_state_dict(trunk.network.state_dict())
    plain = same(((images / 255 - trunk.mean) / trunk.std).contiguous())
    torch.testing.assert_close(features, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("one_rank")
def test_batch_norm_over_ranks_of_a_3d_map_is_torchs() -> None:
    torch.manual_seed(0)
    plain, ranks = nn.BatchNorm3d(4), nn.BatchNorm3d(4)
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    ranks.load_state_dict(plain.state_dict())
    assert type(convert(ranks)) is GlooBatchNorm
    maps = (3 + 2 * torch.randn(3, 4, 2, 5, 5)).contiguous(memory_format=torch.channels_last_3d)
    grads = []
    for network in (plain, ranks):
        inputs = maps.clone().requires_grad_()
        network(inputs).square().mul(torch.arange(5.0)).sum().backward()
        grads.append([inputs.grad, network.weight.grad, network.bias.grad])
    torch.testing.assert_close(ranks(maps), plain(maps))
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ranks.state_dict(), plain.state_dict())


def test_every_batch_norm_of_a_video_network_is_converted() -> None:
    kinds = {type(module) for module in convert(TinyVideoTrunk(width=1).build()).modules()}
    assert GlooBatchNorm in kinds
    assert nn.BatchNorm3d not in kinds
