from pathlib import Path

import pytest
import torch
from torch import nn

from cf_lightning.errors import ConfigError, DataError
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


def test_a_layer_by_name_is_its_average_pooled_map() -> None:
    trunk = TorchvisionTrunk(name="resnet18").build().eval()
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    assert trunk.layer("layer3")(images).shape == (2, 256)
    torch.testing.assert_close(trunk.layer("layer4")(images), trunk(images))
    with pytest.raises(DataError, match=r"extract.layer=layer9: no such layer; .*layer4"):
        trunk.layer("layer9")


def test_weights_survive_the_file_and_another_architecture_is_refused(tmp_path: Path) -> None:
    trunk = TinyTrunk(width=2).build()
    trunk.mean += 0.1
    trunk.save(tmp_path)
    loaded = TinyTrunk(width=2).build().load(tmp_path)
    for name, tensor in trunk.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    with pytest.raises(DataError, match="does not fit"):
        TinyTrunk(width=4).build().load(tmp_path)
