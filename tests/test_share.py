"""What part of the machine a job gets."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cf_lightning.errors import ConfigError
from cf_lightning.share import Share, machine, shares, slot


def joblib(n_jobs: int) -> dict[str, Any]:
    return {
        "_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        "n_jobs": n_jobs,
    }


def submitit(cores: int | None = None, gpus: int | None = None, kind: str = "Local") -> dict[str, Any]:
    target = f"hydra_plugins.hydra_submitit_launcher.submitit_launcher.{kind}Launcher"
    return {"_target_": target, "cpus_per_task": cores, "gpus_per_node": gpus}


def whole(cores: int, gpus: int = 0) -> Share:
    return Share(cores=list(range(cores)), gpus=[str(i) for i in range(gpus)])


@pytest.mark.parametrize(
    ("launcher", "cores", "gpus", "jobs", "expected"),
    [
        (joblib(2), 4, 0, 9, [([0, 1], []), ([2, 3], [])]),
        (joblib(2), 5, 1, 9, [([0, 1, 2, 3, 4], ["0"])]),
        (joblib(2), 4, 2, 9, [([0, 1], ["0"]), ([2, 3], ["1"])]),
        (joblib(2), 8, 4, 9, [([0, 1, 2, 3], ["0", "1"]), ([4, 5, 6, 7], ["2", "3"])]),
        (joblib(8), 2, 0, 9, [([0], []), ([1], [])]),
        (joblib(1), 2, 2, 9, [([0, 1], ["0", "1"])]),
        (joblib(-1), 3, 0, 9, [([0], []), ([1], []), ([2], [])]),
        (joblib(-1), 64, 0, 2, [([*range(32)], []), ([*range(32, 64)], [])]),
        (submitit(1), 2, 0, 9, [([0], []), ([1], [])]),
        (submitit(2, 1), 4, 4, 9, [([0, 1], ["0"]), ([2, 3], ["1"])]),
        (submitit(None, 2), 4, 4, 9, [([0, 1], ["0", "1"]), ([2, 3], ["2", "3"])]),
        (submitit(), 4, 2, 9, [([0, 1], ["0"]), ([2, 3], ["1"])]),
        (submitit(), 4, 0, 9, [([0, 1, 2, 3], [])]),
        (submitit(8), 4, 0, 9, [([0, 1, 2, 3], [])]),
        (submitit(1, 1, "Slurm"), 4, 4, 9, []),
        ({"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}, 4, 4, 9, []),
    ],
)
def test_the_machine_is_divided_between_the_jobs_that_run_at_once(
    launcher: dict[str, Any], cores: int, gpus: int, jobs: int, expected: list[tuple[list[int], list[str]]]
) -> None:
    found = shares(launcher, whole(cores, gpus), jobs)
    assert [(share.cores, share.gpus) for share in found] == expected


@pytest.mark.parametrize(
    ("given", "gpus"), [("", []), ("-1", []), ("3,1", ["3", "1"]), ("GPU-ab", ["GPU-ab"])]
)
def test_the_machine_is_what_this_process_may_use(given: str, gpus: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", given)
        found = machine()
    assert found.gpus == gpus
    assert set(found.cores) == os.sched_getaffinity(0)


def test_a_process_sees_its_share_alone() -> None:
    share = Share(cores=machine().cores[-1:], gpus=["3"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "7")
        patch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
        environment = share.environment()
        assert whole(2).environment()["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"
    assert environment["CUDA_VISIBLE_DEVICES"] == "3"
    assert "OMP_NUM_THREADS" not in environment
    code = "import os; print(*os.sched_getaffinity(0))"
    told = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=share.confine, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [str(share.cores[0])]


def test_more_devices_than_the_share_has_gpus_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"runtime.devices=3: a job's share is 4 cores and 2 GPUs;"):
        whole(4, 2).check({"devices": 3, "accelerator": "auto"})
    whole(4, 2).check({"devices": 2, "accelerator": "auto"})
    whole(4, 2).check({"devices": "auto", "accelerator": "auto"})
    whole(4, 2).check({"devices": 3, "accelerator": "cpu"})
    whole(1).check({"devices": 2, "accelerator": "auto"})


def test_a_share_is_held_by_one_job_and_free_again_after_it(tmp_path: Path) -> None:
    parts = [whole(1), whole(2)]
    told: list[str] = []

    class Waited(Exception):
        pass

    def give_up(line: str) -> None:
        told.append(line)
        raise Waited

    for _ in range(2):
        with slot(tmp_path, parts, give_up) as first, slot(tmp_path, parts, give_up) as second:
            assert [first, second] == parts
            with pytest.raises(Waited), slot(tmp_path, parts, give_up):
                pass
    assert told == ["waits: 2 jobs of the sweep have the whole machine"] * 2


def test_where_nothing_is_divided_nobody_waits(tmp_path: Path) -> None:
    with slot(tmp_path, [], print) as one, slot(tmp_path, [], print) as other:
        assert one == other == Share()
