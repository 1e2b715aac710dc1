"""Two nodes: two torchrun agents that meet on the loopback, as jobs of submitit's local executor."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

from cf_lightning.chain import teach, teacher_nodes
from cf_lightning.console import Console
from cf_lightning.errors import ConfigError, UserError
from cf_lightning.execution import versions
from cf_lightning.plan import Plan, Step
from cf_lightning.store import Store

Compose = Callable[..., dict[str, Any]]
TWO_NODES = ("runtime=slurm", "runtime.slurm.cluster=local", "runtime.nodes=2", "runtime.devices=1")
CPU = ("runtime.accelerator=cpu", "runtime.progress=false")


@pytest.fixture
def composed(compose: Compose, image_folder: Callable[..., Path]) -> Callable[..., dict[str, Any]]:
    root = image_folder(per_class=16)

    def make(*overrides: str) -> dict[str, Any]:
        data = ("data=folder", f"data.root={root}", "pretrain=supervised", "pretrain.batch_size=8")
        return compose("+experiment=demo", *data, "model.width=4", *overrides, *CPU)

    return make


def planned(cfg: dict[str, Any], store: Path) -> tuple[Plan, Step, Step]:
    """A teacher's training and its features."""
    plan = Plan(Store(str(store)), cfg["runtime"])
    trunk = teach(plan, "", teacher_nodes(cfg)[""])
    data = trunk.inputs["data"]
    extract = {**cfg["extract"], "model": trunk.node["model"]}
    return plan, trunk, plan.add("extract", extract, "features", data=data, trunk=trunk)


def run(plan: Plan) -> None:
    plan.check()
    plan.run(Console())


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Something that happens to a run from outside; it has to have happened when the run ends."""
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            act()
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=attempt)
    thread.start()
    yield
    thread.join(timeout=1)
    assert not thread.is_alive(), "it never came to it"
    assert not failed, failed


def wait_for(place: Path, pattern: str) -> None:
    deadline = time.monotonic() + 120
    while not list(place.glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern}"
        time.sleep(0.01)


def agents(folder: Path) -> list[psutil.Process]:
    """The processes that stand for the nodes, the first node first."""
    lines = {process: process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])}
    mine = [
        p for p, line in lines.items() if "submitit.core._submit" in line and str(folder) in " ".join(line)
    ]
    return sorted(mine, key=lambda p: int(p.environ()["SUBMITIT_LOCAL_GLOBALID"]))


def files(plan: Plan, *steps: Step) -> dict[str, bytes]:
    named = ("trunk.safetensors", "head.safetensors", "history.csv", "features.npy")
    return {n: f.read_bytes() for step in steps for n in named if (f := plan.folder(step) / n).exists()}


@pytest.mark.slow
def test_two_nodes_give_what_two_devices_of_one_give(composed: Compose, tmp_path: Path) -> None:
    one, *steps = planned(composed("pretrain.epochs=2", "runtime.devices=2"), tmp_path / "one")
    run(one)
    two, *other_steps = planned(composed("pretrain.epochs=2", *TWO_NODES), tmp_path / "two")
    run(two)
    assert [step.key for step in steps] == [step.key for step in other_steps]
    assert len(files(one, *steps)) == 4
    assert files(one, *steps) == files(two, *other_steps)
    assert not list((tmp_path / "two").rglob("*.jobs")), "nothing of the jobs is left"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["a node is killed", "the job is preempted"])
def test_the_stage_goes_on_within_its_epoch(
    what: str, composed: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    minutes = 1e-6 if what == "a node is killed" else 60  # a preempted job saves because it is told to
    long = ("pretrain.epochs=2", "data.holdout=0", "pretrain.batch_size=2")  # to be met within one
    long += (f"runtime.checkpoint_minutes={minutes}",)
    undisturbed, trunk, _ = planned(composed(*long, "runtime.devices=2"), tmp_path / "undisturbed")
    undisturbed.steps = undisturbed.steps[:-1]
    run(undisturbed)
    plan, other, _ = planned(composed(*long, *TWO_NODES), tmp_path / "store")
    plan.steps = plan.steps[:-1]
    place = tmp_path / "store" / "pretrain"

    def disturb() -> None:
        if what == "a node is killed":
            wait_for(place, "*.partial/resume.ckpt")
            agents(place)[1].kill()
        else:
            wait_for(place, "*.partial/history.csv")  # one epoch is over
            agents(place)[0].send_signal(signal.SIGUSR2)

    with meanwhile(disturb):
        run(plan)
    assert files(undisturbed, trunk) == files(plan, other)
    assert caplog.text.count("a node was lost, attempt 1 of 3") == (what == "a node is killed")


@pytest.mark.slow
def test_a_user_error_on_a_node_is_told_as_such_and_not_tried_again(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = versions
    monkeypatch.setattr("cf_lightning.execution.versions", lambda: real() | {"torch": "1.0"})
    plan, *_ = planned(composed(*TWO_NODES), tmp_path / "store")
    with pytest.raises(UserError, match=r"node \S+ has torch \S+, the driver 1.0: run the same"):
        run(plan)
    assert not list((tmp_path / "store").glob("pretrain/*/manifest.json"))


@pytest.mark.slow
def test_a_node_with_other_files_is_refused(composed: Compose, tmp_path: Path) -> None:
    plan, *_ = planned(composed(*TWO_NODES), tmp_path / "store")
    plan.check()
    next(iter(sorted((tmp_path / "images" / "red").iterdir()))).unlink()  # after the driver has listed
    with pytest.raises(UserError, match=r"root=\S+images: node \S+ finds other data there"):
        plan.run(Console())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["runtime.nodes=2"], "several are those of a SLURM job; add runtime=slurm"),
        (["runtime=slurm", "runtime.devices=auto"], "say what a node has"),
        (["runtime=slurm"], "there is no srun on this machine"),
        ([*TWO_NODES, "+runtime.slurm.stages={pretrain: {minuts: 3}}"], "did you mean minutes?"),
        (["runtime.devices=3"], r"batch_size=8 is of all devices .* by 3 .* take 6 or 9"),
        (
            ["runtime.devices=100", "pretrain.batch_size=100"],
            "100 processes for the 48 .* at most 48",
        ),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(
    overrides: list[str], message: str, composed: Compose, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(composed(*overrides), tmp_path)[0].check()


def test_a_stage_asks_for_what_it_needs(compose: Compose) -> None:
    from cf_lightning.config import build

    slurm = ["runtime=slurm", "runtime.slurm.partition=gpu", "runtime.slurm.memory_gb=200"]
    more = ["+runtime.slurm.stages={cluster: {minutes: 60, partition: cpu}}", "+runtime.slurm.more={nice: 5}"]
    runtime = build(compose("+experiment=demo", *slurm, *more)["runtime"], "runtime")
    assert runtime.slurm._parameters("cluster", runtime, 2) == {
        "name": "cf_cluster",
        "timeout_min": 60,
        "gpus_per_node": 8,
        "nodes": 2,
        "tasks_per_node": 1,
        "cpus_per_task": 16,
        "mem_gb": 200,
        "slurm_partition": "cpu",
        "slurm_additional_parameters": {"nice": 5},
    }
    assert runtime.slurm._parameters("pretrain", runtime, 4)["timeout_min"] == 1440
