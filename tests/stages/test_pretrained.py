import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision import models

from cf_lightning.errors import ConfigError
from cf_lightning.models.base import TrunkRecipe
from cf_lightning.models.timm import TimmTrunk
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.models.torchvision import TorchvisionTrunk
from cf_lightning.stages.pretrained import PublishedTrunk

TIMM = "test_resnet.r160_in1k"  # of a megabyte, for tests


def stage(model: TrunkRecipe, **settings: Any) -> PublishedTrunk:
    return PublishedTrunk(model=model, name="any", **settings)


def facts(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "facts.json").read_text())
    assert isinstance(found, dict)
    return found


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's cache, and no network."""

    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path / "home"))
    folder = tmp_path / "home" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, torch.Tensor]], None]:
    """Put weights where the hub's client looks for what it has fetched; no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    nobody = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"  # refuses to connect
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", nobody)

    def put(name: str, weights: dict[str, torch.Tensor]) -> None:
        folder = tmp_path / "hub" / f"models--timm--{name}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("0" * 40)
        (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
        save_file(weights, folder / "snapshots" / ("0" * 40) / "model.safetensors")

    return put


def as_published(name: str, names: Callable[[str], str] = str) -> tuple[str, dict[str, torch.Tensor]]:
    """The name of a file of torchvision's weights, and random ones to put into it."""
    torch.manual_seed(5)
    weights = models.get_model_weights(name)["IMAGENET1K_V1"]
    state = models.get_model(name).state_dict()
    return Path(weights.url).name, {names(key): tensor for key, tensor in state.items()}


def test_torchvisions_weights_by_tag_with_their_mean_and_std(torch_home: Path, tmp_path: Path) -> None:
    file, state = as_published("mobilenet_v3_small")
    torch.save(state, torch_home / file)
    model = TorchvisionTrunk(name="mobilenet_v3_small")
    stage(model).run(tmp_path)
    assert facts(tmp_path) == {"pretrained": True, "weights": "IMAGENET1K_V1"}  # what DEFAULT stands for
    trunk = model.build().load(tmp_path)
    assert torch.equal(trunk.network.state_dict()["features.0.0.weight"], state["features.0.0.weight"])
    assert trunk.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_densenets_old_names_are_understood(torch_home: Path, tmp_path: Path) -> None:
    def old(name: str) -> str:
        return re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name)

    file, state = as_published("densenet121", old)
    assert any("norm.1" in name for name in state)
    torch.save(state, torch_home / file)
    trunk, tag = TorchvisionTrunk(name="densenet121").pretrained("DEFAULT")
    name = "features.denseblock1.denselayer1.{}1.weight"
    assert torch.equal(trunk.network.state_dict()[name.format("norm")], state[name.format("norm.")])
    assert tag == "IMAGENET1K_V1"


def test_a_file_in_torchs_cache_is_not_executed(torch_home: Path, tmp_path: Path) -> None:
    file, _ = as_published("mobilenet_v3_small")
    torch.save(models.mobilenet_v3_small(), torch_home / file)
    with pytest.raises(
        ConfigError, match="mobilenet_v3_small IMAGENET1K_V1 of torchvision cannot be fetched"
    ):
        stage(TorchvisionTrunk(name="mobilenet_v3_small")).run(tmp_path)


def test_timms_weights_with_their_mean_and_std(hub: Callable[..., None], tmp_path: Path) -> None:
    torch.manual_seed(5)
    state = timm.create_model(TIMM).state_dict()  # with its classifier, as published
    hub(TIMM, state)
    for name in (TIMM, "test_resnet"):
        out = tmp_path / name
        out.mkdir()
        stage(TimmTrunk(name=name)).run(out)
        assert facts(out) == {"pretrained": True, "weights": "r160_in1k"}
        trunk = TimmTrunk(name=name).build().load(out)
        for key, tensor in trunk.network.state_dict().items():
            assert torch.equal(tensor, state[key])
        assert trunk.mean.flatten().tolist() == pytest.approx(timm.get_pretrained_cfg(TIMM).mean)


def test_timms_weights_for_images_of_another_size(hub: Callable[..., None]) -> None:
    hub("test_vit.r160_in1k", timm.create_model("test_vit").state_dict())
    model = TimmTrunk(name="test_vit.r160_in1k", image_size=48)
    trunk, _ = model.pretrained("DEFAULT")
    assert trunk.network.pos_embed.shape == model.build().network.pos_embed.shape == (1, 10, 64)
    assert trunk.eval()(torch.zeros(1, 3, 48, 48, dtype=torch.uint8)).shape == (1, 64)


@pytest.mark.parametrize("model", [TorchvisionTrunk(name="mobilenet_v3_small"), TimmTrunk(name=TIMM)])
@pytest.mark.usefixtures("torch_home", "hub")
def test_what_cannot_be_fetched_says_so_once_and_runs_without(model: TrunkRecipe, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        stage(model).run(tmp_path)
    for hint in ("teacher.pretrained=false", "teacher=file", "cannot be fetched"):
        assert hint in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "trunk.safetensors").exists()
    weights = []
    for seed in (4, 4, 5):
        stage(model, pretrained=False, seed=seed).run(tmp_path)
        assert facts(tmp_path) == {"pretrained": False, "seed": seed}
        weights.append((tmp_path / "trunk.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize(
    ("model", "weights", "message"),
    [
        (TorchvisionTrunk(name="resnet18"), "V9", "weights=V9: of resnet18 torchvision has IMAGENET1K_V1"),
        (TimmTrunk(name="test_resnet"), "nope", "weights=nope: .* name: test_resnet.nope"),
        (TimmTrunk(name="test_resnet.nope"), "DEFAULT", "name=test_resnet.nope: timm has weights r160_in1k"),
        (TimmTrunk(name="coatnet_0_224"), "DEFAULT", "name=coatnet_0_224: timm has weights none"),
        (TinyTrunk(), "DEFAULT", r"TinyTrunk\(width=16\) has no published weights"),
    ],
)
def test_weights_that_do_not_exist(model: TrunkRecipe, weights: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        stage(model, weights=weights).run(tmp_path)


@pytest.mark.parametrize("model", [TorchvisionTrunk(name="resnet51"), TimmTrunk(name="resnet51")])
def test_a_network_that_does_not_exist_is_found_before_anything_runs(model: TrunkRecipe) -> None:
    with pytest.raises(ConfigError, match=r"name=resnet51: .*near: .*resnet50"):
        stage(model).disk_bytes()
    assert (stage(TimmTrunk(name=TIMM)).disk_bytes() or 0) > 1e6


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_the_architecture_is_the_teachers_own(library: str, compose: Callable[..., dict[str, Any]]) -> None:
    cfg = compose("+experiment=demo", f"teacher={library}", "teacher.name=resnet18", "seed=7")
    assert cfg["teacher"]["model"]["name"] == "resnet18"
    assert cfg["teacher"]["seed"] == 0  # a sweep over seeds has one teacher
