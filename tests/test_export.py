"""Exported networks: the same features in torchvision, timm, ONNX and our own code; nothing is executed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import cf_lightning
from cf_lightning.errors import DataError
from cf_lightning.export.__main__ import export
from cf_lightning.export.load import Exported
from cf_lightning.models.tiny_video import TinyVideoTrunk
from cf_lightning.models.torchvision import TorchvisionTrunk
from cf_lightning.results import read_results
from cf_lightning.runs import Run

README = (Path(__file__).parents[1] / "README.md").read_text()
TINY = "cf_lightning.models.tiny_video.TinyVideoTrunk"
SMALL = (
    *("+experiment=demo", "model=torchvision", "model.name=resnet18", "data=species", "cluster.k=30"),
    *("pretrain=supervised", "pretrain.epochs=1", "clusterfit.epochs=1", "cluster/engine=lloyd"),
    *("target=[species]", "contestant=[random,teacher,student]", "cluster_report.stability=0"),
)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose student is a ResNet-18."""
    base = tmp_path_factory.mktemp("run")
    places = (f"runtime.store={base / 'store'}", f"hydra.run.dir={base / 'run'}", "transfer=[knn]")
    line = [sys.executable, "-m", "cf_lightning", *SMALL, *places, "runtime.accelerator=cpu"]
    subprocess.run(line, check=True, capture_output=True, cwd=base, timeout=600)
    return base / "run"


@pytest.fixture
def exported(run_folder: Path, tmp_path: Path) -> Path:
    return export(run_folder, "student", tmp_path / "student", onnx=False)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.manual_seed(0))


def artifact(run_folder: Path) -> Path:
    run, results = Run.read(run_folder), read_results(run_folder)
    key = next(one.clusterfit_key for one in results if one.contestant == "student")
    return Path(run.store) / "clusterfit" / str(key)


def original(run_folder: Path, images: torch.Tensor) -> torch.Tensor:
    trunk = TorchvisionTrunk(name="resnet18").build().load(artifact(run_folder)).eval()
    with torch.inference_mode():
        return trunk(images)


def code(text: str, within: str) -> str:
    return next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if within in block)


@pytest.mark.slow
@pytest.mark.parametrize("library", ["load_trunk", "torchvision", "timm"])
def test_the_cards_code_gives_the_same_features(
    library: str, exported: Path, run_folder: Path, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(exported)
    names: dict[str, Any] = {}
    exec(code((exported / "README.md").read_text(), library), names)
    if library == "load_trunk":
        network, inputs = names["trunk"], images
    else:
        described = Exported.model_validate_json((exported / "trunk.json").read_bytes())
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (described.mean, described.std))
        network, inputs = names["network"], (images.float() / 255 - mean) / std
    with torch.inference_mode():
        features = network(inputs)
    torch.testing.assert_close(features, original(run_folder, images), rtol=0, atol=1e-5)
    assert not network.training


@pytest.mark.slow
def test_the_readmes_lines_run(
    run_folder: Path, tmp_path: Path, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = code(README, "load_trunk")
    export(run_folder, "student", tmp_path / "student", onnx=False)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block, names)
    with torch.inference_mode():
        expected, features = original(run_folder, images), names["trunk"](images)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)
    assert names["network"].state_dict().keys() >= load_file("student/model.safetensors").keys()


@pytest.mark.slow
def test_an_artifact_loads_as_it_lies_in_the_store(run_folder: Path, images: torch.Tensor) -> None:
    with torch.inference_mode():
        features = cf_lightning.load_trunk(artifact(run_folder))(images)
    assert torch.equal(features, original(run_folder, images))


@pytest.mark.slow
def test_onnx_gives_the_same_features_for_any_batch(
    run_folder: Path, tmp_path: Path, images: torch.Tensor
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    folder = export(run_folder, "teacher", tmp_path / "teacher", onnx=True)
    session = runtime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = cf_lightning.load_trunk(folder)(images).numpy()
    for number in (1, 5):
        (features,) = session.run(None, {"inputs": (images[:number].float() / 255).numpy()})
        np.testing.assert_allclose(features, expected[:number], rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_the_card_says_what_made_it(exported: Path, run_folder: Path) -> None:
    card = (exported / "README.md").read_text()
    for result in read_results(run_folder):
        if result.contestant == "student":
            assert f"| species | knn | pooled | {result.metric} | {100 * result.value:.1f} |" in card
            assert f"clusterfit/{result.clusterfit_key}" in card
    assert "Clusters: k = 30." in card
    assert "+experiment=demo model=torchvision model.name=resnet18" in card
    assert "in plain torchvision" in card.lower()
    assert card.startswith("---\ntags:\n- clusterfit\n")


@pytest.mark.slow
def test_what_cannot_be_exported_is_said_in_one_message(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--contestant nobody: the run in .* has random, teacher, student"):
        export(run_folder, "nobody", tmp_path / "x", onnx=False)
    with pytest.raises(DataError, match=r"--contestant random: its weights are random"):
        export(run_folder, "random", tmp_path / "x", onnx=False)
    with pytest.raises(DataError, match=r"is there already"):
        export(run_folder, "student", tmp_path, onnx=False)
    with pytest.raises(DataError, match=r"no such file, so .* is no run's folder"):
        export(tmp_path, "student", tmp_path / "x", onnx=False)
    moved = artifact(run_folder).rename(tmp_path / "moved")
    try:
        with pytest.raises(DataError, match=r"no longer in the store; run the same command again"):
            export(run_folder, "student", tmp_path / "x", onnx=False)
    finally:
        os.rename(moved, artifact(run_folder))
    done = subprocess.run(
        [sys.executable, "-m", "cf_lightning.export", str(run_folder), "--contestant", "nobody"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "x").exists()


def written(folder: Path, **changes: Any) -> Path:
    """An exported folder of a network of clips."""
    folder.mkdir()
    torch.manual_seed(0)
    trunk = TinyVideoTrunk(width=2).build()
    save_file(trunk.network.state_dict(), folder / "model.safetensors")
    described = {
        "model": {"_target_": TINY, "width": 2},
        "feature_dim": trunk.feature_dim,
        **{"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5], "view": {}},
    }
    (folder / "trunk.json").write_text(json.dumps(described | changes))
    return folder


def test_a_network_of_clips_loads_with_its_own_mean(tmp_path: Path) -> None:
    trunk = cf_lightning.load_trunk(written(tmp_path / "clips"))
    assert trunk.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert trunk(torch.zeros(2, 3, 2, 16, 16, dtype=torch.uint8)).shape == (2, trunk.feature_dim)
    assert not trunk.training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": {"_target_": "os.system", "command": "touch hacked"}},
            r"=os.system: not a network",
        ),
        ({"model": {"_target_": "cf_lightning.models.state_dict.match"}}, r"not a network of cf_lightning"),
        (
            {"model": {"_target_": TINY, "wide": 2}},
            r"Extra inputs",
        ),
        ({"mean": [1, 2]}, r"trunk.json: mean.*"),
        ({"model": {"_target_": TINY, "width": 4}}, r"export the"),
    ],
)
def test_nothing_but_a_network_of_ours_is_built(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        cf_lightning.load_trunk(written(tmp_path / "bad", **changes))
    assert not Path("hacked").exists()


def test_a_folder_that_holds_no_network_is_refused(tmp_path: Path) -> None:
    for text in (None, "{}", "[]", "{"):
        if text is not None:
            (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(DataError, match=r"neither an exported network .* nor an artifact"):
            cf_lightning.load_trunk(tmp_path)
    (written(tmp_path / "cut") / "model.safetensors").write_bytes(b"\0" * 9)
    with pytest.raises(DataError, match=r"model.safetensors: .*export the network again"):
        cf_lightning.load_trunk(tmp_path / "cut")
