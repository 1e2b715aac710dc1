"""Contestants and teachers as they are planned, and all of them in one table."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cf_lightning.chain import Chain
from cf_lightning.config import conf_dir
from cf_lightning.contestants.base import Entry
from cf_lightning.errors import ConfigError, DataError
from cf_lightning.pipeline import enter, method, transfer
from cf_lightning.plan import Plan
from cf_lightning.store import Store
from conftest import Cli

Compose = Callable[..., dict[str, Any]]
SMALL = ("+experiment=demo", "runtime.accelerator=cpu", "data=folder", "pretrain=supervised")
EVERY = sorted(file.stem for file in (conf_dir() / "contestant").glob("*.yaml"))
TWO = ("+pretrain@teachers.turned=rotation", "+pretrain@teachers.named=supervised")


@pytest.fixture
def planned(
    compose: Compose, image_folder: Callable[..., Path], tmp_path: Path
) -> Callable[..., tuple[Chain, dict[str, Entry]]]:
    root = image_folder(per_class=10)

    def make(*overrides: str) -> tuple[Chain, dict[str, Entry]]:
        cfg = compose(*SMALL, f"data.root={root}", "cluster.k=6", *overrides)
        plan = Plan(Store(str(tmp_path / "store")))
        chain = method(plan, cfg)
        entries = [
            entry for name, node in cfg["contestant"].items() for entry in enter(name, node, plan, chain)
        ]
        return chain, {entry.name: entry for entry in entries}

    return make


def test_a_longer_teacher_is_the_same_training_stretched(planned: Callable[..., Any]) -> None:
    chain, entries = planned("contestant=[teacher,teacher_2x]", "pretrain.epochs=3")
    (teacher,) = chain.teachers
    longer = entries["teacher_2x"].trunk
    assert longer.node == {**teacher.node, "epochs": 6}
    assert longer.inputs == teacher.trunk.inputs
    six_epochs, _ = planned("pretrain.epochs=6")
    assert six_epochs.teachers[0].trunk.key == longer.key


def test_distillation_has_the_students_recipe_and_the_teachers_labels(planned: Callable[..., Any]) -> None:
    chain, entries = planned("contestant=[distillation]", "model=tiny", "model.width=8")
    trunk = entries["distillation"].trunk
    assert {name: step.stage for name, step in trunk.inputs.items()} == {
        "data": "index",
        "teacher": "pretrain",
    }
    assert trunk.node["task"]["model"] == chain.teachers[0].node["model"]
    assert trunk.node["task"]["labels"] == chain.teachers[0].node["task"]
    recipe = ("optimization", "augmentation", "batch_size", "seed", "model", "precision")
    student = chain.cfg["clusterfit"]
    assert {name: trunk.node[name] for name in recipe} == {name: student[name] for name in recipe}


@pytest.mark.parametrize("name", ["per_label", "prototypes"])
def test_relabelled_students_train_as_the_student_does(name: str, planned: Callable[..., Any]) -> None:
    chain, entries = planned(f"contestant=[{name}]")
    entry = entries[name]
    assert entry.trunk.node == chain.student.node
    (labels,) = entry.made_by["cluster"]
    assert (labels.stage, labels.inputs["features"].key) == ("relabel", chain.teachers[0].features.key)
    assert entry.keys()["cluster_key"] == labels.key != chain.student.inputs["labels"].key
    assert entry.k == (6 if name == "per_label" else None)


@pytest.mark.parametrize("name", ["student", "per_label", "prototypes"])
def test_a_student_that_is_told_more_of_its_clusters_says_so(name: str, planned: Callable[..., Any]) -> None:
    plain, untold = planned(f"contestant=[{name}]")
    _, entries = planned(f"contestant=[{name}]", "clusterfit.relabel.nearest=2")
    told, before = entries[name].trunk.inputs["labels"], untold[name].trunk.inputs["labels"]
    assert told.stage == "relabel"
    assert {name: step.key for name, step in told.inputs.items()} == {
        "data": plain.data.key,
        "features": plain.teachers[0].features.key,
        "labels": before.key,
    }
    assert entries[name].trunk.node == untold[name].trunk.node
    assert entries[name].keys()["cluster_key"] == before.key
    assert (entries[name].k, entries[name].details) == (untold[name].k, {"relabel": "nearest=2"})
    assert untold[name].details == {}


def test_every_clustering_is_relabelled_and_heads_keep_their_names(planned: Callable[..., Any]) -> None:
    relabel = ("clusterfit.relabel.min_size=3", "clusterfit.relabel.small=drop")
    plain, _ = planned(*TWO, "cluster.k=[4,6]")
    chain, entries = planned(*TWO, "cluster.k=[4,6]", *relabel, "contestant=[student]")
    assert list(chain.student.inputs) == list(plain.student.inputs)
    heads = {head: step.inputs["labels"] for head, step in chain.student.inputs.items() if head != "data"}
    assert {head: step.key for head, step in heads.items()} == {
        head: step.key for teacher in plain.teachers for head, step in teacher.labels.items()
    }
    assert entries["student"].details == {"relabel": "min_size=3 small=drop"}
    assert entries["student"].k == [4, 6, 4, 6]


@pytest.mark.parametrize("k", ["6", "[6,9]"])
def test_more_clusters_for_a_sample_than_there_are_is_refused(k: str, planned: Callable[..., Any]) -> None:
    planned(f"cluster.k={k}", "clusterfit.relabel.nearest=6")
    with pytest.raises(ConfigError, match=r"clusterfit\.relabel\.nearest=7: there are 6 clusters"):
        planned(f"cluster.k={k}", "clusterfit.relabel.nearest=7")


def test_a_students_own_clusters_are_not_relabelled(planned: Callable[..., Any]) -> None:
    planned("clusterfit/recluster=kmeans")
    with pytest.raises(ConfigError, match=r"clusterfit\.relabel with nearest=2, .*clusterfit\.recluster"):
        planned("clusterfit/recluster=kmeans", "clusterfit.relabel.nearest=2")


def test_each_of_several_teachers_has_clusters_and_the_student_a_head_for_each(
    planned: Callable[..., Any],
) -> None:
    chain, entries = planned(*TWO, "cluster.k=[4,6]", "contestant=[random,teacher,student,teacher_2x]")
    heads = ["labels_turned_k4", "labels_turned_k6", "labels_named_k4", "labels_named_k6"]
    assert list(chain.student.inputs) == ["data", *heads]
    names = ["random", "teacher_turned", "teacher_named", "student", "teacher_2x_turned", "teacher_2x_named"]
    assert list(entries) == names
    keys = entries["student"].keys()
    assert keys["pretrain_key"] == [teacher.trunk.key for teacher in chain.teachers]
    assert len(set(keys["cluster_key"])) == 4
    alone, _ = planned("pretrain=rotation", "pretrain.epochs=10", "cluster.k=4")
    assert alone.student.inputs["labels"].key == chain.student.inputs["labels_turned_k4"].key


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["pretrain=rotation", "contestant=[distillation]"],
            "contestant=distillation: .*labels.*is Rotation",
        ),
        (
            ["teacher=file", "teacher.path={file}", "contestant=[teacher_2x]"],
            "contestant=teacher_2x: .*trained here.*is ImportTrunk",
        ),
        (
            ["teacher=file", "teacher.path={file}", "contestant=[distillation]"],
            "contestant=distillation: .*trained here.*is ImportTrunk",
        ),
        (["+teachers.no-name={{_target_: x}}"], r"teachers\.no-name: a name has letters"),
        (
            ["contestant.student._target_=cf_lightning.models.tiny.TinyTrunk"],
            "contestant.student._target_.*not a",
        ),
        (["contestant=[teacher_2x]", "contestant.teacher_2x.times=1"], "contestant.teacher_2x.times=1"),
    ],
)
def test_what_cannot_enter_says_why(
    overrides: list[str], message: str, planned: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "weights.pth").write_bytes(b"x")
    with pytest.raises(ConfigError, match=message) as error:
        planned(*(one.format(file=tmp_path / "weights.pth") for one in overrides))
    assert len(str(error.value).splitlines()) == 1


def test_labels_that_the_teacher_does_not_know_are_refused(
    planned: Callable[..., Any], image_folder: Callable[..., Path]
) -> None:
    other = image_folder(per_class=10, name="other")
    (other / "red").rename(other / "crimson")
    node = f"pretrain.data={{_target_: cf_lightning.data.folder.FolderImages, root: {other}}}"
    hard = "contestant.distillation.task.hard_weight=0.5"
    planned(node, "contestant=[distillation]")
    with pytest.raises(
        DataError, match=r"contestant=distillation: .*has 1 labels .*not learned, such as red"
    ):
        planned(node, "contestant=[distillation]", hard)


EXPERIMENTS = sorted(file.stem for file in (conf_dir() / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_plans_and_passes_its_checks(
    experiment: str, compose: Compose, tmp_path: Path
) -> None:
    cfg = compose(f"+experiment={experiment}")
    plan = Plan(Store(str(tmp_path / "store")))
    planned = transfer(plan, cfg, method(plan, cfg))
    plan.check()
    last = "student" if cfg["rounds"] else "teacher"
    assert {blank["contestant"] for blank, _ in planned} >= {"random", last}


def test_every_contestant_gives_rows(cli: Cli, tmp_path: Path) -> None:
    done = cli(
        *("+experiment=demo", "data=species", "pretrain=supervised", "pretrain.noise=0.5", "cluster.k=30"),
        *("pretrain.epochs=1", "clusterfit.epochs=1", "model.width=4", "cluster/engine=lloyd"),
        *(f"contestant=[{','.join(EVERY)}]", "target=[species]", "transfer=[knn]"),
        "cluster_report.stability=0",
    )
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "run" / "results.csv", newline="") as file:
        rows = {row["contestant"]: row for row in csv.DictReader(file) if row["metric"] == "top1"}
    assert sorted(rows) == EVERY
    assert len({row["transfer_key"] for row in rows.values()}) == len(EVERY)
    assert rows["per_label"]["k"] == "30"
    assert all(float(row["value"]) > 0 for row in rows.values())


def test_two_teachers_one_student(cli: Cli, tmp_path: Path) -> None:
    done = cli(
        *("+experiment=jigsaw_rotnet_r50", "model=tiny", "model.width=4", "cluster.k=12"),
        *("data.view.resize=36", "data.view.crop=36", "cluster/engine=lloyd", "clusterfit.epochs=1"),
        *("pretrain.epochs=1", "teachers.jigsaw.task.hidden=16"),
        *("target=[species]", "transfer=[knn]", "cluster_report.stability=0"),
    )
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "run" / "results.csv", newline="") as file:
        rows = {row["contestant"]: row for row in csv.DictReader(file) if row["metric"] == "top1"}
    assert list(rows) == ["random", "teacher_jigsaw", "teacher_rotation", "student"]
    assert len(rows["student"]["cluster_key"].split("+")) == 2
    (student,) = (tmp_path / "store" / "clusterfit").glob("*/history.csv")
    header = student.read_text().splitlines()[0]
    assert "val/top1_jigsaw" in header
    assert "val/top1_rotation" in header
