import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cf_lightning.errors import ConfigError
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.stages.imported import ImportTrunk

MODEL = TinyTrunk(width=2)


def stage(path: Path) -> ImportTrunk:
    return ImportTrunk(model=MODEL, path=str(path), mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.2])


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return MODEL.build().network.state_dict()


def plain(state: dict[str, Any]) -> dict[str, Any]:
    return state


def wrapped(state: dict[str, Any]) -> dict[str, Any]:
    return {"epoch": 3, "state_dict": {f"module.encoder_q.{name}": t for name, t in state.items()}}


def with_classifier(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "fc.weight": torch.zeros(10, 16)}


@pytest.mark.parametrize("shape", [plain, wrapped, with_classifier])
def test_weights_arrive_in_the_trunk(shape: Callable[..., Any], tmp_path: Path) -> None:
    torch.save(shape(weights()), tmp_path / "w.pth")
    stage(tmp_path / "w.pth").run(tmp_path)
    trunk = MODEL.build().load(tmp_path)
    for name, tensor in weights().items():
        assert torch.equal(trunk.network.state_dict()[name], tensor)
    assert trunk.mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert json.loads((tmp_path / "facts.json").read_text())["unused"] == (shape is with_classifier)


def test_safetensors(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "w.safetensors")
    stage(tmp_path / "w.safetensors").run(tmp_path)
    assert (tmp_path / "trunk.safetensors").exists()


def test_weights_of_another_network_are_refused_with_the_counts(tmp_path: Path) -> None:
    other = TinyTrunk(width=3).build().network.state_dict()
    torch.save(other, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=r"teacher.path=.*w.pth: \d+ of the \d+ tensors .*of another shape"):
        stage(tmp_path / "w.pth").run(tmp_path)
    torch.save({f"visual.{name}": t for name, t in weights().items()}, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=r"0 of the \d+ tensors .* missing: \['0.weight'"):
        stage(tmp_path / "w.pth").run(tmp_path)
    assert not (tmp_path / "trunk.safetensors").exists()


class Bomb:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('executed')",)


@pytest.mark.parametrize("content", [pickle.dumps(Bomb()), b"", b"PK\x03\x04 truncated"])
def test_what_is_no_state_dict_is_refused_and_not_executed(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ConfigError, match="not a state dict that can be read without executing it"):
        stage(tmp_path / "w.pth").run(tmp_path)


def test_a_missing_file_is_found_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"teacher.path=.*none.pth: there is no such file"):
        stage(tmp_path / "none.pth").check()
