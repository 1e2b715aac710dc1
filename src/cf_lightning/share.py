"""What part of the machine a job of a sweep gets, so that jobs that run at once do not fight.

Processes that compute on the same cores spin while they wait for each other and are far slower than
one after the other; two on the same GPU run out of its memory.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel

from cf_lightning.errors import ConfigError

CONFINES = hasattr(os, "sched_setaffinity")  # Linux


class Share(BaseModel):
    """Cores and GPUs.

    Attributes:
        cores: their numbers; empty where nothing is to be confined.
        gpus: as CUDA_VISIBLE_DEVICES names them.
    """

    cores: list[int] = []
    gpus: list[str] = []

    def environment(self) -> dict[str, str]:
        """Of a process that is to see these GPUs alone, with as many threads as it has cores.

        joblib's workers carry thread counts that it derived without knowing the shares.
        """
        kept = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
        return {**kept, "CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else kept

    def confine(self) -> None:
        """Keep this process, and all that it starts, to the cores."""
        if self.cores and CONFINES:
            os.sched_setaffinity(0, self.cores)

    def check(self, runtime: Mapping[str, Any]) -> None:
        """Refuse more processes than the share has GPUs.

        Raises:
            ConfigError: ``runtime.devices`` is larger.
        """
        devices = runtime["devices"]
        on_gpus = self.gpus and runtime["accelerator"] != "cpu"
        if on_gpus and devices != "auto" and devices > len(self.gpus):
            raise ConfigError(
                f"runtime.devices={devices}: a job's share is {self}; let fewer jobs run at once "
                "(joblib: hydra.launcher.n_jobs=1; submitit_local: hydra.launcher.gpus_per_node)"
            )

    def __str__(self) -> str:
        parts = [(len(self.cores), "core"), (len(self.gpus), "GPU")]
        return " and ".join(f"{count} {name}{'s' * (count > 1)}" for count, name in parts if count)


def machine() -> Share:
    """All that this process may use; asks neither torch nor the driver, which would take seconds."""
    cores = sorted(os.sched_getaffinity(0)) if CONFINES else list(range(os.cpu_count() or 1))
    count = sum(1 for _ in Path("/dev").glob("nvidia[0-9]*"))
    given = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count))))
    return Share(cores=cores, gpus=[name for name in given.split(",") if name not in ("", "-1")])


def shares(launcher: Mapping[str, Any], whole: Share, jobs: int) -> list[Share]:
    """The shares of the jobs that run at once, all of the same size; further jobs wait for one.

    Args:
        launcher: Hydra's node. joblib: the machine by ``n_jobs``. submitit_local: ``cpus_per_task``
            cores and ``gpus_per_node`` GPUs each; unset, one GPU each, or without GPUs all of the
            machine, one after the other.
        whole: what there is to divide.
        jobs: no more shares than that.

    Returns:
        Nothing where nothing is to be divided: jobs come one after the other (basic), or somebody else
        divides (Slurm).
    """
    kind = str(launcher["_target_"]).rpartition(".")[2]
    num_cores, num_gpus = len(whole.cores), len(whole.gpus)
    if kind == "JoblibLauncher":
        wanted = int(launcher["n_jobs"])
        at_once = wanted if wanted > 0 else max(1, num_cores + 1 + wanted)
        count = min(at_once, jobs, num_cores, num_gpus or jobs)
        return _cut(whole, count, num_cores // count, num_gpus // count)
    if kind == "LocalLauncher":
        cores, gpus = launcher["cpus_per_task"], launcher["gpus_per_node"] or min(1, num_gpus)
        fit = [num_cores // cores] if cores else []
        fit += [num_gpus // gpus] if gpus else []
        count = max(1, min([*fit, jobs])) if fit else 1
        return _cut(whole, count, cores or num_cores // count, gpus)
    return []


def _cut(whole: Share, count: int, cores: int, gpus: int) -> list[Share]:
    return [
        Share(cores=whole.cores[i * cores : (i + 1) * cores], gpus=whole.gpus[i * gpus : (i + 1) * gpus])
        for i in range(count)
    ]


@contextmanager
def slot(folder: Path, parts: list[Share], say: Callable[[str], None]) -> Iterator[Share]:
    """Hold one of the shares; waits for it, and ``say``s so, when all are taken.

    Args:
        folder: of the lock files, one for each share; a process that dies lets go of its own.
        parts: of ``shares``; where there are none, everything is yielded as it stands.
        say: is given a line.
    """
    if not parts:
        yield Share()
        return
    folder.mkdir(parents=True, exist_ok=True)
    locks = [FileLock(folder / f"{i}.lock", is_singleton=False) for i in range(len(parts))]
    waiting = False
    while True:
        for lock, share in zip(locks, parts, strict=True):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield share
            finally:
                lock.release()
            return
        if not waiting:
            say(f"waits: {len(parts)} jobs of the sweep have the whole machine")
            waiting = True
        time.sleep(0.5)
