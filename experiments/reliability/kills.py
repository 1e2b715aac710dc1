"""SIGKILL at a random time: to the driver, to a worker of a process group, or to a process that loads."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psutil
from case import Case, Outcome
from small_run import PATIENCE, Medium, Undisturbed, undisturbed
from traces import left_behind, unfinished

Victim = Literal["driver", "worker", "loader"]

KILLS: list[tuple[Medium, int, Victim, int]] = [
    ("images", 1, "driver", 50),
    ("images", 1, "loader", 25),
    ("images", 2, "driver", 10),
    ("images", 2, "worker", 10),
    ("images", 2, "loader", 5),
    ("clips", 1, "driver", 12),
    ("clips", 1, "loader", 8),
]
# of which one is removed where all stages would take a process group each; with what comes last
GROUPS = ("pretrain", "extract", "cluster", "clusterfit", "target_features")


def cases() -> Iterator[Case]:
    """120 of them."""
    for medium, processes, victim, count in KILLS:
        for number in range(count):
            name = f"{medium}, {processes} process{'es' * (processes > 1)}, {victim}, {number}"
            attempt = partial(killed, name, medium, processes, victim)
            yield Case(f"kill, {medium}", name, attempt)


def killed(name: str, medium: Medium, processes: int, victim: Victim, folder: Path) -> Outcome:
    """Kill, look at what is left, give the same command again, and compare with the undisturbed run."""
    twin, rng = undisturbed(medium, processes), random.Random(name)
    seconds = twin.seconds if processes == 1 else begin_late(twin, rng.choice(GROUPS), folder)
    when = rng.uniform(0.1, 0.95) * seconds
    run = twin.run.start(folder)
    told = strike(run, victim, when, rng)
    try:
        run.wait(60)
    except subprocess.TimeoutExpired:
        run.kill()
        return Outcome(hangs=1, note=f"{told}: the run did not end by itself")
    if left := left_behind(folder / "store", patience=30):
        return Outcome(hangs=1, note=f"{told}: left behind {left}")
    if bad := unfinished(folder / "store"):
        return Outcome(lost=1, note=f"{told}: published and not whole: {bad}")
    return completed(twin, folder, told)


def completed(twin: Undisturbed, folder: Path, told: str) -> Outcome:
    """Give the same command again: it has to end as if nothing had been."""
    run = twin.run.start(folder)
    try:
        code = run.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        run.kill()
        return Outcome(hangs=1, note=f"{told}; the same command again did not end")
    if code:
        output = (folder / "output.txt").read_text()
        return Outcome(lost=1, note=f"{told}; the same command again: code {code}, {output[-250:]}")
    if difference := twin.differs(folder):
        return Outcome(lost=1, note=f"{told}; {difference}")
    if left := left_behind(folder / "store", patience=10):
        return Outcome(hangs=1, note=f"{told}; the same command again left behind {left}")
    if partial_folders := list((folder / "store").rglob("*.partial")):
        return Outcome(lost=1, note=f"{told}; still there: {partial_folders}")
    return Outcome(note=told)


def begin_late(twin: Undisturbed, stage: str, folder: Path) -> float:
    """A store in which ``stage`` and the last one are missing; the seconds that a run then takes, about."""
    shutil.copytree(twin.folder / "store", folder / "store", copy_function=os.link)
    for missing in (stage, "transfer"):
        shutil.rmtree(folder / "store" / missing)
    return 0.35 * twin.seconds


def strike(run: "subprocess.Popen[str]", victim: Victim, when: float, rng: random.Random) -> str:
    """Kill the victim after so many seconds, or as soon as there is one; what was done, in words."""
    start = time.monotonic()
    while run.poll() is None:
        passed = time.monotonic() - start
        if passed >= when and (found := victims(run.pid, victim)):
            rng.choice(found).send_signal(signal.SIGKILL)
            return f"killed after {passed:.1f} s"
        time.sleep(0.01)
    return "the run was over before"


def victims(driver: int, kind: Victim) -> list[psutil.Process]:
    """The driver, its stage's workers, or the loaders of either."""
    try:
        process = psutil.Process(driver)
        if kind == "driver":
            return [process]
        return [child for child in process.children(recursive=True) if is_a(child, kind)]
    except psutil.NoSuchProcess:
        return []


def is_a(process: Any, kind: Victim) -> bool:
    """By the name that torch gives its loaders, and by the command of a worker."""
    try:
        loads = process.name().startswith("pt_data_worker")
        return loads if kind == "loader" else not loads and "cf_lightning.worker" in process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
