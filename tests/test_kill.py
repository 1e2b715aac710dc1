"""SIGKILL in every stage, the same command again, and the table of an undisturbed run."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from conftest import Cli, scores

SHORT = (
    "+experiment=demo",
    "pretrain.epochs=3",
    "clusterfit.epochs=3",
    "target=[species]",
    "contestant=[teacher,student]",
    "cluster.k=16",
    "transfer.linear.protocol.epochs=1000",  # long enough to be met in it
)
# what has to lie in a partial folder before the kill: a checkpoint, a begun row file, or any beginning
SIGNS = {
    "pretrain": "resume.ckpt",
    "extract": "features.npy",
    "space": "job.json",
    "cluster": "job.json",
    "cluster_report": "job.json",
    "clusterfit": "resume.ckpt",
    "target_features": "features.npy",
    "transfer": "job.json",
}


def kill_in(stage: str, sign: str, line: list[str], folder: Path) -> None:
    """Start ``line``, wait for the sign of ``stage``, kill the process group, and see everybody gone."""
    process = subprocess.Popen(
        line, cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(stage, sign, process, folder)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 10
    while left := processes_of(folder):
        assert time.monotonic() < deadline, f"still alive: {left}"
        time.sleep(0.05)


def wait_for(stage: str, sign: str, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Until the run has come to the sign of ``stage``."""
    deadline = time.monotonic() + 300
    while not list((folder / "store" / stage).glob(f"*.partial/{sign}")):
        assert process.poll() is None, f"the run ended before {stage} had begun"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def processes_of(folder: Path) -> list[str]:
    """Command lines, other than the zombies', that name the test's own folder."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if str(folder) in line and process.status() != psutil.STATUS_ZOMBIE:
                found.append(line)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "engine"), [(1, "faiss"), (2, "lloyd")])
def test_killed_in_every_stage_the_table_is_that_of_an_undisturbed_run(
    devices: int, engine: str, command: Callable[..., list[str]], cli: Cli, tmp_path: Path
) -> None:
    machine = (f"runtime.devices={devices}", "runtime.accelerator=cpu")
    overrides = (*SHORT, *machine, f"cluster/engine={engine}")
    for stage, sign in SIGNS.items():
        in_the_fit = stage == "cluster" and engine == "lloyd"
        kill_in(stage, "fit/lloyd.npz" if in_the_fit else sign, command(*overrides), tmp_path)
    last = cli(*overrides)
    assert last.returncode == 0, last.stderr
    undisturbed = cli(*overrides, store="other", run="other_run")
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert scores(tmp_path / "run") == scores(tmp_path / "other_run")
    assert not list((tmp_path / "store").rglob("*.partial"))
    for stage in ("extract", "space", "target_features"):
        ours = {f.parent.name: f.read_bytes() for f in (tmp_path / "store" / stage).glob("*/features.npy")}
        theirs = {f.parent.name: f.read_bytes() for f in (tmp_path / "other" / stage).glob("*/features.npy")}
        assert ours == theirs


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_signal_ends_the_run_soon_and_not_with_success(
    number: signal.Signals, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    line = command(*SHORT, "pretrain.epochs=1000", "runtime.accelerator=cpu")
    process = subprocess.Popen(
        line,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
    )
    try:
        wait_for("pretrain", "resume.ckpt", process, tmp_path)
        process.send_signal(number)
        assert process.wait(timeout=30) != 0
        assert list((tmp_path / "store" / "pretrain").glob("*.partial/resume.ckpt")), "the work is kept"
    finally:
        process.kill()


@pytest.mark.slow
def test_a_slurm_job_that_is_told_of_its_end_saves_within_the_epoch_and_queues_itself_again(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    tool = tmp_path / "bin" / "scontrol"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol.log\n')
    tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}", "SLURM_JOB_ID": "77"}
    long = "runtime.checkpoint_minutes=1000"
    line = command(*SHORT, "pretrain.epochs=1000", "runtime.accelerator=cpu", long)
    process = subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_for("pretrain", "history.csv", process, tmp_path)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(timeout=30) == 128 + signal.SIGUSR1
    finally:
        process.kill()
    assert (tmp_path / "scontrol.log").read_text() == "requeue 77\n"
    assert list((tmp_path / "store" / "pretrain").glob("*.partial/resume.ckpt")), "the work is kept"
