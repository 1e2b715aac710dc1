from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cf_lightning.errors import ConfigError, DataError
from cf_lightning.models.timm import TimmTrunk
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.models.torchvision import TorchvisionTrunk


@pytest.mark.parametrize(
    ("name", "dim"), [("resnet18", 512), ("mobilenet_v3_small", 1024), ("vit_b_32", 768)]
)
def test_any_classification_network_loses_its_classifier(name: str, dim: int) -> None:
    size = 224 if name.startswith("vit") else 32
    trunk = TorchvisionTrunk(name=name).build().eval()
    assert trunk.feature_dim == dim
    assert trunk(torch.zeros(2, 3, size, size, dtype=torch.uint8)).shape == (2, dim)


def test_an_unknown_network_shows_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"model.name=resnet51: .*resnet50"):
        TorchvisionTrunk(name="resnet51").build()
    with pytest.raises(ConfigError, match=r"model.name=resnet51: .*resnet50"):
        TimmTrunk(name="resnet51").build()
    with pytest.raises(ConfigError, match=r"model.name=mobilenetv5_300m_enc: .*without a pooled feature"):
        TimmTrunk(name="mobilenetv5_300m_enc").sized()
    with pytest.raises(ConfigError, match="no linear classifier"):
        TorchvisionTrunk(name="squeezenet1_1").build()


def test_normalisation_is_part_of_the_trunk() -> None:
    trunk = TinyTrunk(width=2).build()
    seen = []
    trunk.network = nn.Sequential(nn.Identity())
    trunk.network.register_forward_hook(lambda m, i, o: seen.append(o))
    trunk(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    expected = (1 - trunk.mean) / trunk.std
    torch.testing.assert_close(seen[0], expected.expand(1, 3, 2, 2))


def test_weights_survive_the_file_and_another_architecture_is_refused(tmp_path: Path) -> None:
    trunk = TinyTrunk(width=2).build()
    trunk.mean += 0.1
    trunk.save(tmp_path)
    loaded = TinyTrunk(width=2).build().load(tmp_path)
    for name, tensor in trunk.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    with pytest.raises(DataError, match="does not fit"):
        TinyTrunk(width=4).build().load(tmp_path)


@pytest.mark.parametrize(
    "name", ["test_resnet", "mobilenetv3_small_050", "test_convnext", "test_vit", "test_vit2"]
)
def test_any_network_of_timm_gives_features_of_the_width_it_says(name: str) -> None:
    trunk = TimmTrunk(name=name).build().eval()
    assert trunk(torch.zeros(2, 3, 40, 40, dtype=torch.uint8)).shape == (2, trunk.feature_dim)
    assert TimmTrunk(name=name).sized().feature_dim == trunk.feature_dim


def test_a_transformers_tokens_by_pool() -> None:
    images = torch.randint(256, (2, 3, 36, 50), dtype=torch.uint8)  # no multiple of its patch
    features = {}
    for pool in ("auto", "cls", "mean"):
        torch.manual_seed(1)
        trunk = TimmTrunk(name="test_vit", pool=pool).build().eval()  # type: ignore[arg-type]
        features[pool] = trunk(images)
    torch.manual_seed(1)
    network = TimmTrunk(name="test_vit").build().eval().network
    tokens = network.forward_features((images / 255 - trunk.mean) / trunk.std)
    torch.testing.assert_close(features["cls"], tokens[:, 0])
    torch.testing.assert_close(features["mean"], tokens[:, 1:].mean(1))
    torch.testing.assert_close(features["auto"], features["cls"])


@pytest.mark.parametrize(
    ("name", "pool", "kind"),
    [
        ("test_resnet", "cls", "class token"),
        ("test_resnet", "mean", "patch tokens"),
        ("test_vit2", "cls", "class"),
    ],
)
def test_tokens_that_a_network_has_not_are_refused(name: str, pool: Any, kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"pool={pool}: {name} has no {kind}.*pool=auto"):
        TimmTrunk(name=name, pool=pool).build()


def test_images_of_a_size_that_a_network_cannot_take() -> None:
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    with pytest.raises(
        ConfigError, match=r"64x64 px: the network takes 224x224; set image_size of mixer_s32_224"
    ):
        TimmTrunk(name="mixer_s32_224").build().eval()(images)
    assert TimmTrunk(name="mixer_s32_224", image_size=64).build().eval()(images).shape == (1, 512)
    with pytest.raises(ConfigError, match=r"64x64 px: the network takes 224x224; set data.view.crop=224"):
        TorchvisionTrunk(name="vit_b_32").build().eval()(images)
    with pytest.raises(ConfigError, match=r"image_size=64: test_resnet .* leave it null"):
        TimmTrunk(name="test_resnet", image_size=64).build()
