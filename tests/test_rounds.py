"""Students of students, and students that begin with their teacher's weights."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cf_lightning.chain import Chain
from cf_lightning.contestants.base import Entry
from cf_lightning.errors import ConfigError
from cf_lightning.pipeline import enter, method
from cf_lightning.plan import Plan, Step
from cf_lightning.report.run_page import result_table
from cf_lightning.results import gain, read_results
from cf_lightning.store import Store
from cf_lightning.tracking.wandb_tables import gain_numbers
from conftest import Cli

Compose = Callable[..., dict[str, Any]]
Planned = Callable[..., tuple[Chain, dict[str, Entry]]]
SMALL = ("+experiment=demo", "runtime.accelerator=cpu", "data=folder", "pretrain=supervised", "cluster.k=6")
TWO = ("+pretrain@teachers.turned=rotation", "+pretrain@teachers.named=supervised")
STAGES = ("pretrain", "extract", "cluster", "cluster_report", "relabel", "clusterfit")
WARM = "clusterfit.warm_start=true"


@pytest.fixture
def planned(compose: Compose, image_folder: Callable[..., Path], tmp_path: Path) -> Planned:
    root = image_folder()

    def make(*overrides: str) -> tuple[Chain, dict[str, Entry]]:
        cfg = compose(*SMALL, f"data.root={root}", *overrides)
        plan = Plan(Store(str(tmp_path / "store")))
        chain = method(plan, cfg)
        plan.check()
        entries = [
            entry for name, node in cfg["contestant"].items() for entry in enter(name, node, plan, chain)
        ]
        return chain, {entry.name: entry for entry in entries}

    return make


def origin(student: Step) -> Step:
    """The network whose features the clusters of its first head are of."""
    clusters = next(step for name, step in student.inputs.items() if name.startswith("labels"))
    return clusters.inputs["features"].inputs["features"].inputs["trunk"]


def test_each_round_is_an_ordinary_chain_whose_teacher_is_the_last_student(planned: Planned) -> None:
    once, _ = planned()
    chain, _ = planned("rounds=3")
    first, second, third = (one.student for one in chain.rounds)
    assert chain.student is third
    assert first.key == once.student.key
    assert [origin(student) for student in (first, second, third)] == [chain.teachers[0].trunk, first, second]
    assert len({first.key, second.key, third.key}) == 3
    assert first.node == second.node == third.node
    assert {student.stage for student in (first, second, third)} == {"clusterfit"}
    assert [list(student.inputs) for student in (second, third)] == [["data", "labels"]] * 2


def test_the_student_is_looked_at_with_its_own_architecture(planned: Planned) -> None:
    chain, _ = planned("rounds=2", "model.width=8", "teacher.model={_target_: ${model._target_}, width: 4}")
    assert [one.teachers[0].extracted.node["model"]["width"] for one in chain.rounds] == [4, 8]


def test_every_round_has_a_row_with_its_own_keys(planned: Planned) -> None:
    chain, entries = planned("rounds=3", "contestant=[random,teacher,student,teacher_2x,per_label]")
    assert list(entries) == [
        *("random", "teacher", "student_1", "student_2", "student"),
        *("teacher_2x", "per_label"),
    ]
    for number, name in enumerate(["student_1", "student_2", "student"]):
        (teacher,) = chain.rounds[number].teachers
        assert entries[name].k == 6
        assert entries[name].details == {"round": f"{number + 1} of 3"}
        assert entries[name].keys() == {
            "pretrain_key": chain.teachers[0].trunk.key,
            "extract_key": teacher.extracted.key,
            "cluster_key": teacher.labels["labels"].key,
            "clusterfit_key": chain.rounds[number].student.key,
        }
    assert entries["teacher"].trunk is chain.rounds[0].teachers[0].trunk
    assert entries["per_label"].made_by["extract"] == [chain.rounds[0].teachers[0].extracted]
    _, once = planned("contestant=[student]")
    assert once["student"].details == {}


def test_of_several_teachers_and_k_the_second_round_has_one_teacher(planned: Planned) -> None:
    chain, entries = planned(*TWO, "cluster.k=[4,6]", "rounds=2", "contestant=[random,student]")
    heads = [list(one.student.inputs)[1:] for one in chain.rounds]
    assert heads[0] == ["labels_turned_k4", "labels_turned_k6", "labels_named_k4", "labels_named_k6"]
    assert heads[1] == ["labels_k4", "labels_k6"]
    assert {name: entry.k for name, entry in entries.items()} == {
        "random": [4, 6, 4, 6],
        "student_1": [4, 6, 4, 6],
        "student": [4, 6],
    }
    titles = [step.title for one in chain.rounds for step in one.clusterings]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("rounds", ["-1", "true", "1.5", "null", "[1,2]"])
def test_a_number_of_rounds_that_means_nothing_is_refused(rounds: str, compose: Compose) -> None:
    plan = Plan(Store("unused"))
    with pytest.raises(ConfigError, match=r"^rounds=.*: a whole number; 1 is the paper's method"):
        method(plan, compose("+experiment=demo", f"rounds={rounds}"))
    assert not plan.steps


def test_without_a_round_networks_are_only_measured(planned: Planned) -> None:
    chain, entries = planned("rounds=0", "contestant=[random,teacher]", "teacher=torchvision")
    assert {name: entry.k for name, entry in entries.items()} == dict.fromkeys(entries)
    assert entries["teacher"].trunk is chain.pretrained[0].trunk
    assert entries["random"].model == entries["teacher"].model
    with pytest.raises(ConfigError, match=r"^rounds=0: nothing is clustered and there is no student"):
        planned("rounds=0", "contestant=[teacher,student]")


def test_a_warm_student_is_given_its_teachers_weights_and_another_name(planned: Planned) -> None:
    cold, _ = planned()
    chain, entries = planned(
        WARM, "rounds=2", "contestant=[teacher,student,per_label,prototypes,distillation]"
    )
    first, second = (one.student for one in chain.rounds)
    assert first.inputs["start"] is chain.teachers[0].trunk
    assert second.inputs["start"] is first
    assert first.key != cold.student.key
    assert first.node == cold.student.node
    names = ["student_warm_1", "student_warm", "per_label", "prototypes", "distillation"]
    assert list(entries) == ["teacher", *names]
    for name in names:
        assert entries[name].details["start"] == "the teacher's weights"
        assert entries[name].details.keys() <= {"start", "round"}
    for name in names[2:]:
        assert entries[name].trunk.inputs["start"] is chain.teachers[0].trunk


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.width=8", "teacher.model={_target_: ${model._target_}, width: 4}"],
            "the student is TinyTrunk width=8 and the teacher TinyTrunk width=4; ",
        ),
        (
            ["clusterfit.model={_target_: ${model._target_}, width: 8}"],
            "the student is TinyTrunk width=8 and the teacher TinyTrunk width=16; ",
        ),
        (TWO, "there are several teachers, turned, named; "),
    ],
)
def test_weights_that_do_not_fit_are_refused(overrides: list[str], message: str, planned: Planned) -> None:
    with pytest.raises(ConfigError, match=rf"^clusterfit\.warm_start=true: {message}"):
        planned(WARM, *overrides)
    planned(*overrides)


@pytest.mark.slow
def test_two_warm_rounds_give_rows_and_the_last_is_the_objective(cli: Cli, tmp_path: Path) -> None:
    done = cli(
        *("+experiment=demo", "data=species", "model.width=4", "pretrain=supervised", "cluster.k=12"),
        *("cluster/engine=lloyd", "pretrain.epochs=1", "clusterfit.epochs=1", "cluster_report.stability=0"),
        *("rounds=2", WARM, "clusterfit.relabel.nearest=2", "clusterfit.optimization.lr=1e-9"),
        *("target=[species]", "transfer=[knn]"),
    )
    assert done.returncode == 0, done.stderr
    assert "student_warm - teacher" in done.stdout
    with open(tmp_path / "run" / "results.csv", newline="") as file:
        rows = {row["contestant"]: row for row in csv.DictReader(file) if row["metric"] == "top1"}
    assert list(rows) == ["random", "teacher", "student_warm_1", "student_warm"]
    assert {row["k"] for row in rows.values()} == {"12"}
    results = read_results(tmp_path / "run")
    table = result_table(results)
    assert table is not None
    (shown,) = table["rows"]
    assert shown["gain"] == gain(shown["cells"][1], shown["cells"][3])
    assert shown["gain"][0] in gain_numbers(results).values()
    details = json.loads(rows["student_warm"]["details"])
    assert (details["round"], details["relabel"]) == ("2 of 2", "nearest=2")
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["objective"] == pytest.approx(float(rows["student_warm"]["value"]))
    found = {stage: sorted((tmp_path / "store" / stage).glob("*/manifest.json")) for stage in STAGES}
    assert {stage: len(manifests) for stage, manifests in found.items()} == {
        **dict.fromkeys(STAGES, 2),
        "pretrain": 1,
    }
    teacher, *students = (
        load_file(file.with_name("trunk.safetensors"))
        for stage in ("pretrain", "clusterfit")
        for file in found[stage]
    )
    for student in students:
        learned = [name for name in student if name.endswith("weight")]
        assert all(torch.allclose(student[name], teacher[name], atol=1e-5) for name in learned)
