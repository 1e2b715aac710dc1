import json
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cf_lightning.errors import ConfigError
from cf_lightning.models.base import TrunkRecipe
from cf_lightning.models.state_dict import match
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.models.torchvision import TorchvisionTrunk
from cf_lightning.stages.imported import ImportTrunk

MODEL = TinyTrunk(width=2)
State = dict[str, Any]


def stage(path: Path, model: TrunkRecipe = MODEL, **settings: Any) -> ImportTrunk:
    return ImportTrunk(model=model, path=str(path), **settings)


def weights(model: TrunkRecipe = MODEL, seed: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return model.build().network.state_dict()


def below(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def facts(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "facts.json").read_text())
    assert isinstance(found, dict)
    return found


def plain(state: State) -> State:
    return state


def data_parallel(state: State) -> State:
    return {"epoch": 3, "state_dict": below("module.", state), "optimizer": {"state": {0: {"step": 1}}}}


def backbone(state: State) -> State:
    return below("backbone.", state) | below("head.", {"0.weight": torch.zeros(3, 16)})


def moco(state: State) -> State:
    other = {name: tensor + 1 for name, tensor in state.items()}
    return {"state_dict": below("module.encoder_q.", state) | below("module.encoder_k.", other)}


def deeply_nested(state: State) -> State:
    return {"classy_state_dict": {"base_model": {"model": {"trunk": below("base_model.", state)}}}}


def with_classifier(state: State) -> State:
    return {**state, "fc.weight": torch.zeros(10, 16)}


def without_counters(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if tensor.ndim}


SHAPES = {
    plain: "",
    data_parallel: "state_dict.module.",
    backbone: "backbone.",
    moco: "state_dict.module.encoder_q.",
    deeply_nested: "classy_state_dict.base_model.model.trunk.base_model.",
    with_classifier: "",
    without_counters: "",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_arrive_in_the_trunk_whatever_stands_before_their_names(
    shape: Callable[[State], State], tmp_path: Path
) -> None:
    torch.save(shape(weights()), tmp_path / "w.pth")
    teacher = stage(tmp_path / "w.pth", mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.2])
    teacher.check()
    teacher.run(tmp_path)
    trunk = MODEL.build().load(tmp_path)
    for name, tensor in weights().items():
        assert torch.equal(trunk.network.state_dict()[name], tensor)
    assert trunk.mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert facts(tmp_path)["prefix"] == SHAPES[shape]
    assert facts(tmp_path)["unused"] == (["fc.weight"] if shape is with_classifier else [])


def test_a_trunk_whose_own_names_look_like_a_prefix_keeps_them() -> None:
    network = {"encoder.a": torch.zeros(2), "model.b": torch.zeros(3)}
    for prefix in ("", "encoder.", "module.model."):
        found = match(network, below(prefix, network))
        assert (found.prefix, found.share, set(found.weights)) == (prefix, 1.0, set(network))


def test_safetensors_of_another_architecture_than_the_students(tmp_path: Path) -> None:
    model = TorchvisionTrunk(name="resnet18")
    state = weights(model) | {"fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}
    save_file(state, tmp_path / "w.safetensors")
    teacher = stage(tmp_path / "w.safetensors", model)
    teacher.check()
    teacher.run(tmp_path)
    trunk = model.build().load(tmp_path)
    assert torch.equal(trunk.network.state_dict()["conv1.weight"], state["conv1.weight"])
    assert trunk.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert facts(tmp_path) == {
        "matched": 100,
        "tensors": 100,
        "missing": [],
        "reshaped": [],
        "unused": ["fc.bias", "fc.weight"],
        "prefix": "",
    }


def test_equals_are_named_and_a_prefix_chooses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(moco(weights()), tmp_path / "w.pth")
    stage(tmp_path / "w.pth").run(tmp_path)
    assert "as many fit under state_dict.module.encoder_k.: set teacher.prefix" in caplog.text
    caplog.clear()
    stage(tmp_path / "w.pth", prefix="state_dict.module.encoder_k.").run(tmp_path)
    assert not caplog.text
    trunk = MODEL.build().load(tmp_path)
    assert torch.equal(trunk.network.state_dict()["0.weight"], weights()["0.weight"] + 1)


def test_weights_of_another_network_are_refused_with_the_counts(tmp_path: Path) -> None:
    torch.save(below("module.", weights(TinyTrunk(width=3))), tmp_path / "w.pth")
    with pytest.raises(
        ConfigError, match=r"w.pth: 0 of the 20 tensors .*of another shape: 0.weight, 1.weight"
    ):
        stage(tmp_path / "w.pth").run(tmp_path)
    torch.save(weights(TorchvisionTrunk(name="resnet18")), tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=r"20 tensors .*missing: .* and 12 more.* Set teacher.name"):
        stage(tmp_path / "w.pth").run(tmp_path)
    assert not (tmp_path / "trunk.safetensors").exists()


def test_below_one_the_threshold_lets_some_tensors_be_random_and_says_which(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = weights()
    del state["9.weight"]
    state["0.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="18 of the 20 tensors"):
        stage(tmp_path / "w.pth", threshold=0.95).run(tmp_path)
    with caplog.at_level(logging.WARNING):
        stage(tmp_path / "w.pth", threshold=0.9).run(tmp_path)
    assert (
        "18 of the 20 tensors of the network fit; missing: 9.weight; of another shape: 0.weight"
        in caplog.text
    )
    assert facts(tmp_path)["missing"] == ["9.weight"]
    first = MODEL.build().load(tmp_path).network.state_dict()
    stage(tmp_path / "w.pth", threshold=0.9).run(tmp_path)
    for name, tensor in MODEL.build().load(tmp_path).network.state_dict().items():
        assert torch.equal(first[name], tensor)


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("content", [Bomb(), MODEL.build()])
def test_what_would_have_to_be_executed_is_refused(
    content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": content}, tmp_path / "w.pth")
    (tmp_path / "legacy.pt").write_bytes(pickle.dumps(content, protocol=2))
    for name in ("w.pth", "legacy.pt"):
        with pytest.raises(ConfigError, match="not a state dict that can be read without executing it"):
            stage(tmp_path / name).run(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="holds no state dict"):
        stage(tmp_path / "w.pth").run(tmp_path)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("kept", [0, 5, 0.5, -1])
def test_a_truncated_file_is_found_before_anything_runs(name: str, kept: float, tmp_path: Path) -> None:
    whole = tmp_path / f"whole_{name}"
    save_file(weights(), whole) if name.endswith("s") else torch.save(weights(), whole)
    stage(whole).check()
    content = whole.read_bytes()
    (tmp_path / name).write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(ConfigError, match=rf"teacher.path=.*{name}: the file is empty, truncated or damaged"):
        stage(tmp_path / name).check()


def test_a_missing_file_or_another_kind_is_found_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"teacher.path=.*none.pth: there is no such file"):
        stage(tmp_path / "none.pth").check()
    (tmp_path / "w.h5").write_bytes(b"some")
    with pytest.raises(ConfigError, match=r"teacher.path=.*w.h5: .*\.safetensors, \.pth"):
        stage(tmp_path / "w.h5").check()


def test_the_teachers_architecture_is_not_the_students(
    compose: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    start = ("+experiment=demo", "teacher=file", f"teacher.path={tmp_path / 'w.pth'}")
    plain_cfg = compose(*start, "teacher.name=mobilenet_v2")
    assert plain_cfg["model"]["_target_"].endswith("TinyTrunk")
    assert plain_cfg["teacher"]["model"] == {
        "_target_": "cf_lightning.models.torchvision.TorchvisionTrunk",
        "name": "mobilenet_v2",
    }
    timm = compose(*start, "model@teacher.model=timm", "teacher.name=vit_tiny_patch16_224")
    assert timm["teacher"]["model"]["_target_"].endswith("TimmTrunk")
    assert timm["teacher"]["model"]["name"] == "vit_tiny_patch16_224"
    assert compose(*start, "model@teacher.model=tiny")["teacher"]["model"] == plain_cfg["model"]
