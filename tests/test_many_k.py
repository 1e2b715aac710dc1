"""Several k at once: one student with a head for each, every k the artifact that it has alone."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from cf_lightning.chain import cluster
from cf_lightning.console import Console
from cf_lightning.errors import ConfigError
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.pipeline import method
from cf_lightning.plan import Plan, Step
from cf_lightning.store import Store
from cf_lightning.student import training
from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier
from conftest import Cli

Compose = Callable[..., dict[str, Any]]
Chain = dict[str, list[Step]]
SMALL = ("+experiment=demo", "runtime.accelerator=cpu", "model.width=4", "data=folder", "pretrain=supervised")
SHORT = ("pretrain.epochs=1", "pretrain.batch_size=16", "clusterfit.epochs=1", "clusterfit.batch_size=16")


@pytest.fixture
def planned(compose: Compose, image_folder: Callable[..., Path], tmp_path: Path) -> Callable[[str], Chain]:
    root = image_folder(per_class=10)

    def make(k: str) -> Chain:
        cfg = compose(*SMALL, *SHORT, f"data.root={root}", f"cluster.k={k}")
        chain = method(Plan(Store(str(tmp_path / "store"))), cfg)
        (teacher,) = chain.teachers
        earlier = {"pretrain": [teacher.trunk], "extract": [teacher.extracted]}
        return {**earlier, "cluster": chain.clusterings, "clusterfit": [chain.student]}

    return make


def keys(steps: list[Step]) -> list[str]:
    return [step.key for step in steps]


def test_each_k_has_the_settings_and_the_key_that_it_has_alone(planned: Callable[[str], Chain]) -> None:
    together, four, six = planned("[4,6]"), planned("4"), planned("6")
    assert keys(together["cluster"]) == keys(four["cluster"]) + keys(six["cluster"])
    assert [step.node for step in together["cluster"]] == [c["cluster"][0].node for c in (four, six)]
    (features,) = {step.inputs["features"].key for step in together["cluster"]}
    assert features == four["cluster"][0].inputs["features"].key


def test_a_student_is_known_by_its_heads_in_whatever_order_they_are_listed(
    planned: Callable[[str], Chain],
) -> None:
    (student,) = planned("[4,16,6]")["clusterfit"]
    assert list(student.inputs) == ["data", "labels_k4", "labels_k6", "labels_k16"]
    (other_order,) = planned("[16,6,4]")["clusterfit"]
    assert (other_order.key, list(other_order.inputs)) == (student.key, list(student.inputs))
    found = {planned(k)["clusterfit"][0].key for k in ("[4,16,6]", "[4,6]", "[4,16]", "4", "6")}
    assert len(found) == 5


def test_a_list_of_one_is_the_number(planned: Callable[[str], Chain]) -> None:
    number, listed = planned("4"), planned("[4]")
    assert list(number["clusterfit"][0].inputs) == ["data", "labels"]
    assert {stage: keys(steps) for stage, steps in number.items()} == {
        stage: keys(steps) for stage, steps in listed.items()
    }


@pytest.mark.parametrize("k", ["[]", "[4,4]", "[4,6.5]", "[4,many]", "[4,true]", "[4,null]", "[4,[6,8]]"])
def test_a_list_that_is_none_of_different_numbers(k: str, planned: Callable[[str], Chain]) -> None:
    shown = re.escape(k.split(",")[0])
    with pytest.raises(ConfigError, match=rf"^cluster\.k={shown}.*whole numbers, each of them once") as error:
        planned(k)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("k", "message"), [("[4,31,6]", r"cluster\.k=31: .*30 tr"), ("[0,4]", r"cluster\.k=0")]
)
def test_the_k_that_cannot_be_is_named(
    k: str, message: str, compose: Compose, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = image_folder(per_class=10)
    cfg = compose(*SMALL, f"data.root={root}", "data.holdout=0", f"cluster.k={k}")
    plan = Plan(Store(str(tmp_path / "store")))
    cluster(plan, cfg["cluster"], {"data": plan.index(cfg["data"], "data")})
    with pytest.raises(ConfigError, match=message):
        plan.check()


def test_each_head_learns_the_labels_of_its_clustering(
    compose: Compose, image_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = image_folder(per_class=20)
    (root / "red" / "003.png").write_bytes(b"no image")
    save_file(TinyTrunk(width=4).build().network.state_dict(), tmp_path / "weights.safetensors")
    cfg = compose(
        *(*SMALL, *SHORT, f"data.root={root}", "data.on_error=skip", "cluster.k=[7,3]"),
        *("teacher=file", "model@teacher.model=tiny", "teacher.model.width=4", f"runtime.run_dir={tmp_path}"),
        f"teacher.path={tmp_path / 'weights.safetensors'}",
    )
    plan = Plan(Store(str(tmp_path / "store")))
    data = plan.index(cfg["data"], "data")
    teacher = plan.add("pretrain", cfg["teacher"], "fixed weights")
    extract = {**cfg["extract"], "model": cfg["teacher"]["model"]}
    features = plan.add("extract", extract, "features", data=data, trunk=teacher)
    space = plan.add("space", cfg["cluster"]["space"], "space", data=data, features=features)
    clusterings = cluster(plan, cfg["cluster"], {"data": data, "features": space})
    student = plan.add("clusterfit", training(cfg), "student", data=data, **clusterings)

    seen: dict[int, list[list[int]]] = {}
    training_step = PseudoLabelClassifier.training_step

    def watched(self: PseudoLabelClassifier, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        seen.update(zip(batch[2].tolist(), batch[1].tolist(), strict=True))
        return training_step(self, batch, batch_idx)

    monkeypatch.setattr(PseudoLabelClassifier, "training_step", watched)
    plan.check()
    plan.run(Console())

    labels = [np.load(plan.folder(clusterings[f"labels_k{k}"]) / "labels.npy") for k in (3, 7)]
    assert [set(own) for own in labels] == [{-1, *range(3)}, {-1, *range(7)}]
    assert len(seen) >= 32
    assert seen == {row: [[labels[0][row]], [labels[1][row]]] for row in seen}
    assert all(labels[0][row] >= 0 for row in seen), "an image that cannot be decoded was trained on"

    out = plan.folder(student)
    head = load_file(out / "head.safetensors")
    assert {name: tensor.shape[0] for name, tensor in head.items()} == {"weight": 10, "bias": 10}
    classes = json.loads((out / "classes.json").read_text())
    assert {name: len(names) for name, names in classes.items()} == {"k3": 3, "k7": 7}
    assert list(classes) == ["k3", "k7"], "in the order of the head's rows"
    facts = json.loads((out / "facts.json").read_text())
    assert facts["val_top1"] == pytest.approx((facts["val_top1_k3"] + facts["val_top1_k7"]) / 2, abs=1e-4)
    assert facts["classes"] == 10


@pytest.mark.slow
def test_a_list_from_the_command_line_to_the_table(
    cli: Cli, tmp_path: Path, image_folder: Callable[..., Path]
) -> None:
    root = image_folder(per_class=30)
    rows = ("target=[species]", "transfer=[knn]", "contestant=[student]")
    small = (*SMALL, *SHORT, *rows, f"data.root={root}")
    alone = cli(*small, "cluster.k=4", run="alone")
    assert alone.returncode == 0, alone.stderr
    done = cli(*small, "cluster.k=[6,4]")
    assert done.returncode == 0, done.stderr
    made = set(re.findall(r"^(\w+) +ran +[\d.]+ s", done.stdout, re.MULTILINE))
    assert made & {"pretrain", "extract", "space"} == set()
    assert len(list((tmp_path / "store" / "cluster").glob("*/manifest.json"))) == 2, "that of 4 was there"
    with open(tmp_path / "run" / "results.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert row["k"] == "4+6"
    found = {folder.name for folder in (tmp_path / "store" / "cluster").iterdir() if folder.is_dir()}
    assert set(row["cluster_key"].split("+")) == found
