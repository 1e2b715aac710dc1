"""Sweeps as a person starts them: one job after the other and at once, failing, killed, ended."""

import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from cf_lightning.errors import UserError
from cf_lightning.job import Output
from cf_lightning.multirun import Sweep
from cf_lightning.runs import Run
from cf_lightning.share import Share, machine
from conftest import COLOURS, scores

SWEEP_DIR = "hydra.sweep.dir=sweeps/${hydra:runtime.choices.experiment}"  # relative, and known to Hydra alone
LAUNCHERS = {
    "basic": [],
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit": ["hydra/launcher=submitit_local", "hydra.launcher.cpus_per_task=1"],
}


class Place:
    """A store, and the command lines of small runs in it."""

    def __init__(self, folder: Path, images: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.sweep = folder / "sweeps" / "demo"
        self.settings = [
            "+experiment=demo",
            "runtime.accelerator=cpu",
            f"runtime.store={self.store}",
            *("data=folder", f"data.root={images}", "pretrain=supervised", "cluster_report.stability=0"),
            *(
                "pretrain.epochs=1",
                "clusterfit.epochs=1",
                "pretrain.batch_size=16",
                "clusterfit.batch_size=16",
            ),
            *("target=[species]", "transfer=[knn]", "contestant=[student]"),
        ]

    def start(self, *words: str, cores: int = 2) -> "subprocess.Popen[str]":
        """On two cores, so that of two jobs each has one: threads are in the last bits of a training."""
        line = [sys.executable, "-m", "cf_lightning", *words, *self.settings]
        confined = Share(cores=machine().cores[:cores]).confine
        pipe = subprocess.PIPE
        return subprocess.Popen(
            line, cwd=self.folder, stdout=pipe, stderr=pipe, text=True, preexec_fn=confined
        )

    def multirun(self, *words: str) -> "subprocess.CompletedProcess[str]":
        process = self.start("-m", SWEEP_DIR, *words)
        out, err = process.communicate(timeout=600)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def ran(self, job: int) -> list[str]:
        """The stages that the job itself has run."""
        return [step.stage for step in Run.read(self.sweep / str(job)).steps if not step.cached]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for colour, rgb in COLOURS.items():
        (root / colour).mkdir()
        for number in range(24):
            pixels = np.clip(np.array(rgb) + rng.normal(0, 40, (20, 20, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(root / colour / f"{number:03d}.png")
    return root


@pytest.fixture(scope="module")
def alone(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Runs of k = 3 and k = 4, each by itself and on one core."""
    place = Place(tmp_path_factory.mktemp("alone"), images)
    for k in (3, 4):
        process = place.start(f"cluster.k={k}", f"hydra.run.dir={place.folder / str(k)}", cores=1)
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
    return place


@pytest.fixture
def cold(images: Path, tmp_path: Path) -> Place:
    return Place(tmp_path, images)


@pytest.fixture
def warm(alone: Place, cold: Place) -> Place:
    """A place whose store has the runs of ``alone``."""
    shutil.copytree(alone.store, cold.store)
    return cold


def within(seconds: float, happened: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def jobs_of(driver: "subprocess.Popen[str]") -> list[psutil.Process]:
    found = psutil.Process(driver.pid).children(recursive=True)
    return [process for process in found if process.cmdline()[1:3] == ["-m", "cf_lightning.job"]]


def test_the_plan_of_a_sweep_runs_nothing(cold: Place) -> None:
    done = cold.multirun("cluster.k=4,6", "plan=true")
    assert done.returncode == 0, done.stderr
    assert [f"clusters of the teacher, k={k} " in done.stdout for k in (4, 6, 8)] == [True, True, False]
    assert not list(cold.store.glob("*/*"))


@pytest.mark.slow
def test_jobs_at_once_give_what_runs_alone_give_and_make_nothing_twice(alone: Place, cold: Place) -> None:
    done = cold.multirun("cluster.k=3,4", *LAUNCHERS["joblib"])
    assert done.returncode == 0, done.stdout + done.stderr
    for job, k in enumerate((3, 4)):
        assert scores(cold.sweep / str(job)) == scores(alone.folder / str(k))
    ran = cold.ran(0) + cold.ran(1)
    assert [ran.count(stage) for stage in ("pretrain", "extract", "cluster", "clusterfit")] == [1, 1, 2, 2]
    assert not list(cold.store.rglob("*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_what_is_finished_is_not_made_again_by_any_launcher(launcher: str, alone: Place, warm: Place) -> None:
    if launcher == "submitit":
        pytest.importorskip("submitit")
    done = warm.multirun("cluster.k=3,4", *LAUNCHERS[launcher])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 jobs are done" in done.stdout
    if launcher == "submitit":  # no folder by job, which it may make after the job wants to write there
        assert list((warm.sweep / ".submitit").glob("*_log.out"))
    for job, k in enumerate((3, 4)):
        assert scores(warm.sweep / str(job)) == scores(alone.folder / str(k))
        assert warm.ran(job) == []
        record = Run.read(warm.sweep / str(job))
        assert record.sweep == str(warm.sweep)
        assert f"cluster.k={k}" in record.overrides


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_job_that_fails_is_named_with_its_log_and_the_others_go_on(launcher: str, warm: Place) -> None:
    done = warm.multirun("cluster.k=100000,3", *LAUNCHERS[launcher])
    assert done.returncode == 1
    assert warm.ran(1) == []
    assert scores(warm.sweep / "1")[0]["k"] == "3"
    told = done.stderr[done.stderr.index("1 of 2 jobs have no result") :]
    assert "job 0 cluster.k=100000\n" in told
    assert "choose k up to that" in told
    assert str(warm.sweep / "0" / "job.log") in told
    assert (done.stdout + done.stderr).count("choose k up to that") == 2, "when it happens and at the end"
    assert "Traceback" not in done.stdout + done.stderr
    record = Run.read(warm.sweep / "0")
    assert record.status == "failed"
    assert "choose k up to that" in str(record.error)


@pytest.mark.slow
def test_a_killed_job_leaves_the_others_and_a_second_call_finishes_it_alone(warm: Place) -> None:
    words = ("cluster.k=5,6", *LAUNCHERS["joblib"])
    driver = warm.start("-m", SWEEP_DIR, "runtime.devices=2", *words)
    within(300, lambda: bool(list(warm.store.glob("clusterfit/*.partial"))))
    victim = jobs_of(driver)[0]
    its_own = victim.children(recursive=True)
    victim.kill()
    out, err = driver.communicate(timeout=600)
    assert driver.returncode == 1
    assert not psutil.wait_procs(its_own, timeout=60)[1], "ranks of a killed job live on"
    records = {job: Run.read(warm.sweep / str(job)) for job in (0, 1)}
    (killed,) = [job for job, record in records.items() if record.status == "failed"]
    assert "killed by signal 9 (SIGKILL)" in str(records[killed].error)
    assert f"job {killed} cluster.k={5 + killed}\n    failed: killed by signal 9" in err, out + err
    assert records[1 - killed].status == "done"

    again = warm.multirun(*words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert warm.ran(1 - killed) == []
    assert "clusterfit" in warm.ran(killed)


@pytest.mark.slow
def test_the_end_of_the_driver_is_the_end_of_its_job(warm: Place) -> None:
    driver = warm.start("-m", SWEEP_DIR, "clusterfit.seed=1,2", "clusterfit.epochs=9999")
    within(300, lambda: bool(list(warm.store.glob("clusterfit/*.partial"))))
    (job,) = jobs_of(driver)
    driver.terminate()
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 143
    assert not job.is_running()
    assert Run.read(warm.sweep / "0").error == "interrupted"
    assert "Traceback" not in err
    assert not (warm.sweep / "1").exists()


@pytest.mark.slow
@pytest.mark.parametrize("bad", ["model=tiny,nothing", "cluster.kk=3,4"])
def test_what_cannot_be_composed_refuses_the_sweep_before_it_starts(bad: str, cold: Place) -> None:
    done = cold.multirun(bad)
    assert done.returncode == 1
    assert "nothing" in done.stderr or "kk" in done.stderr
    assert not cold.store.exists()
    assert not list(cold.sweep.glob("*/job.log"))


@pytest.mark.slow
def test_optuna_searches_for_the_best_student_with_one_job_after_the_other(warm: Place) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    space = ("cluster.k=choice(3,4)", "cluster.space.pca=range(8,24,step=8)")
    done = warm.multirun("hydra/sweeper=search", "hydra.sweeper.n_trials=2", *space)
    assert done.returncode == 0, done.stdout + done.stderr
    found = OmegaConf.load(warm.sweep / "optimization_results.yaml")
    assert isinstance(found, DictConfig)
    objectives = [Run.read(warm.sweep / str(job)).objective for job in (0, 1)]
    assert found["best_value"] == max(one for one in objectives if one is not None)
    assert set(found["best_params"]) == {"cluster.k", "cluster.space.pca"}


@pytest.mark.parametrize(("prefix", "expected"), [("[3] ", b"[3] one\n[3] 1%\r2%\n"), ("", b"one\n1%\r2%")])
def test_jobs_at_once_are_told_apart_line_by_line(
    prefix: str, expected: bytes, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    process = subprocess.Popen(["printf", "one\\n1%%\\r2%%"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    log = io.BytesIO()
    Output(log, prefix).follow(process.stdout)
    process.wait()
    assert capfdbinary.readouterr().out == expected
    assert log.getvalue().rstrip(b"\n") == b"one\n1%\r2%"


def test_a_job_notices_that_nobody_waits_for_it() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for driver in (None, os.getpid()):
        Sweep(began="", overrides=[], shares=[], driver=driver).check_driver()
    with pytest.raises(UserError, match="has ended"):
        Sweep(began="", overrides=[], shares=[], driver=gone.pid).check_driver()
