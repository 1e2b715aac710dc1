"""The whole method on videos: by the command line, and the options that images have, too."""

import csv
import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cf_lightning.console import Console
from cf_lightning.errors import ConfigError
from cf_lightning.pipeline import method, transfer
from cf_lightning.plan import Plan
from cf_lightning.store import Store
from conftest import Cli, scores
from test_end_to_end import artifacts, states
from videos import numbered_frames, write_video

Compose = Callable[..., dict[str, Any]]
CHAIN = ("+experiment=hashtag_video_r2plus1d34", "model=tiny_video", "runtime.accelerator=cpu")
SHORT = ("pretrain.epochs=1", "clusterfit.epochs=1", "transfer.finetune.epochs=1", "data.view.frames=4")


@pytest.mark.slow
def test_the_demo_on_clips_from_nothing_and_again_from_the_store(
    cli: Cli, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    overrides = (*CHAIN, *SHORT, "transfer=[linear,knn,finetune]", "model.width=4")
    first = cli(*overrides)
    assert first.returncode == 0, first.stderr
    assert set(states(first.stdout)) == {"ran"}
    rows = json.loads((tmp_path / "run" / "results.json").read_text())
    top1 = {(row["contestant"], row["protocol"]): row for row in rows if row["metric"] == "top1"}
    contestants, protocols = ("random", "teacher", "student"), ("linear", "knn", "finetune")
    assert set(top1) == {(contestant, protocol) for contestant in contestants for protocol in protocols}
    assert all(row["n_test"] == 156 and 0 <= row["value"] <= 1 for row in rows)
    details = {protocol: top1["student", protocol]["details"] for protocol in protocols}
    assert {name: one.get("views") for name, one in details.items()} == {
        "linear": 2,
        "knn": None,
        "finetune": 2,
    }
    assert len({row["transfer_key"] for row in top1.values()}) == 9
    assert artifacts(tmp_path / "store") == {
        **{"index": 2, "pretrain": 1, "extract": 1, "space": 1, "cluster": 1, "cluster_report": 1},
        **{"clusterfit": 1, "target_features": 3, "transfer": 9},
    }
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000

    line = command(*overrides, run="again")
    again = subprocess.run(
        [line[0], "-X", "importtime", *line[1:]], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert set(states(again.stdout)) == {"cached"}
    imported = {part.split("|")[-1].strip() for part in again.stderr.splitlines()}
    assert not imported & {"torch", "lightning", "faiss", "torchvision", "torchcodec", "av"}
    assert scores(tmp_path / "run") == scores(tmp_path / "again")
    assert (tmp_path / "again" / "report.html").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("+experiment=hashtag_video_r2plus1d34", "model=tiny"),
            r"^pretrain \(teacher\): model=TinyTrunk.*: it takes images, and root=embedded gives clips; .*r2",
        ),
        (
            ("+experiment=hashtag_video_r2plus1d34", "model=resnet50"),
            r"^pretrain \(teacher\): model=TorchvisionTrunk.* it takes images, and .* gives clips",
        ),
        (
            ("+experiment=demo", "model=tiny_video"),
            r"^pretrain \(teacher\): model=TinyVideoTrunk.*: it takes clips, and root=embedded gives images; "
            "take a network of images, such as model=resnet50",
        ),
        (
            ("+experiment=demo", "teacher.model={_target_: cf_lightning.models.tiny_video.TinyVideoTrunk}"),
            "it takes clips, and root=embedded gives images",
        ),
        (
            (*CHAIN, "target=[actions,species]"),
            r"^target_features \(random on species\): .*it takes clips, and root=embedded gives images",
        ),
        (
            (*CHAIN, "target=[actions,species]", "transfer=[finetune]"),
            r"^transfer \(random on species: finetune\): .*it takes clips, and root=embedded gives images",
        ),
        ((*CHAIN, "pretrain=jigsaw"), "pretrain .*Jigsaw: it cuts images, and the data gives clips"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_runs(
    overrides: tuple[str, ...], message: str, compose: Compose, tmp_path: Path
) -> None:
    cfg = compose(*overrides)
    plan = Plan(Store(str(tmp_path / "store")))
    transfer(plan, cfg, method(plan, cfg))
    with pytest.raises(ConfigError, match=message) as error:
        plan.check()
    assert len(str(error.value).splitlines()) == 1
    assert not artifacts(tmp_path / "store")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 16 videos, which begin at other numbers."""
    root = tmp_path_factory.mktemp("videos")
    for number in range(32):
        frames = numbered_frames(8, 24, 24, 16 * number)
        write_video(root / ("left", "right")[number % 2] / f"{number}.mp4", frames)
    return root


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """What comes before the student is made once."""
    return Store(str(tmp_path_factory.mktemp("store")))


STUDENTS = {
    "plain": (),
    "mixup": ("clusterfit.mix.mixup=0.5",),
    "cutmix": ("clusterfit.mix.cutmix=1.0",),
    "recluster": ("clusterfit/recluster=kmeans",),
}


@pytest.mark.parametrize("option", STUDENTS)
def test_a_student_of_clips_has_the_options_of_images(
    option: str, videos: Path, store: Store, compose: Compose
) -> None:
    overrides = (
        *("data=video_folder", f"data.root={videos}", "data.view.resize=24", "data.view.crop=16"),
        *("data.view.frames=4", "data.view.fps=10", "data.view.clips_per_video=2", "pretrain=rotation"),
        *("pretrain.epochs=2", "pretrain.batch_size=8", "cluster.k=4", "cluster_report.stability=0"),
        *("clusterfit.epochs=2", "clusterfit.batch_size=8", "clusterfit.precision=32-true"),
    )
    weights = {}
    for name in ("plain", option):
        cfg = compose(*CHAIN, *overrides, *STUDENTS[name])
        plan = Plan(store)
        chain = method(plan, cfg)
        plan.check()
        plan.run(Console())
        out = plan.folder(chain.student)
        weights[name] = load_file(out / "trunk.safetensors")
        with open(out / "history.csv", newline="") as file:
            losses = [float(epoch["train/loss"]) for epoch in csv.DictReader(file)]
        assert len(losses) == 2
        assert all(0 < loss < 10 and math.isfinite(loss) for loss in losses)
    (teacher,) = chain.teachers
    assert json.loads((plan.folder(teacher.trunk) / "classes.json").read_text()) == [
        "0°",
        "90°",
        "180°",
        "270°",
    ]
    assert np.load(plan.folder(teacher.extracted) / "views.npy").shape == (32, 2, 64)
    same = [torch.equal(tensor, weights["plain"][name]) for name, tensor in weights[option].items()]
    assert all(same) == (option == "plain")
