"""Many runs of the framework, some at a time, each on cores of its own, continued where they stopped.

A job that is done is not started again; of one that was stopped the store has what it had finished. Ctrl-C,
SIGTERM and kill lose nothing.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        setting: what is compared; the folder of its runs.
        seed: of everything in it; the run's folder.
        overrides: of the command line, without places.
        minutes: that it takes on one core of its own, about.
    """

    setting: str
    seed: int
    overrides: tuple[str, ...]
    minutes: float

    def folder(self, work: Path) -> Path:
        """Of the run."""
        return work / "runs" / self.setting / str(self.seed)

    def is_done(self, work: Path) -> bool:
        """It has a table."""
        return (self.folder(work) / "results.csv").exists()

    def command(self, work: Path, more: list[str]) -> list[str]:
        """The framework's own; ``more`` comes last."""
        places = [f"runtime.store={work / 'artifacts'}", f"hydra.run.dir={self.folder(work)}"]
        return [sys.executable, "-m", "cf_lightning", *self.overrides, *places, *more]


@dataclass(frozen=True)
class Comparison:
    """Students of several k against what else there is, all trained alike.

    Attributes:
        k: of the students.
        contestants: with the student; those that know no k are measured once, beside the first one.
        epochs: of teacher and student.
        batch_size: of both.
        minutes: of one training on one core of its own, about.
    """

    k: tuple[int, ...]
    contestants: tuple[str, ...]
    epochs: int
    batch_size: int
    minutes: float

    def jobs(self, name: str, seed: int, *overrides: str) -> list[Job]:
        """One for each k, in the settings ``<name>_k<k>``."""
        found = []
        for k in self.k:
            rows = self.contestants if k == self.k[0] else ("student",)
            trainings = sum(TRAININGS[row] for row in rows)
            own = (
                *(f"{stage}.epochs={self.epochs}" for stage in ("pretrain", "clusterfit")),
                *(f"{stage}.batch_size={self.batch_size}" for stage in ("pretrain", "clusterfit")),
                *(f"cluster.k={k}", f"contestant=[{','.join(rows)}]", f"seed={seed}"),
            )
            found.append(Job(f"{name}_k{k}", seed, (*overrides, *own), trainings * self.minutes))
        return found


TRAININGS = {"random": 0, "teacher": 1, "student": 1, "distillation": 1, "teacher_2x": 2}


def parser(doc: str) -> argparse.ArgumentParser:
    """What every study can be told."""
    found = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    found.add_argument("overrides", nargs="*", help="of every job, for trials: pretrain.epochs=1")
    found.add_argument("--packs", type=Path, default=Path(), help="folder of the packs")
    found.add_argument("--work", type=Path, default=Path(), help="folder of the store, the runs, the logs")
    found.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="SEED")
    found.add_argument("--streams", type=int, default=2, help="jobs at a time (%(default)s)")
    found.add_argument("--list", action="store_true", help="only say what would be run, and how long")
    return found


def run(jobs: list[Job], args: argparse.Namespace) -> int:
    """Run what is not done; the exit code."""
    due = [job for job in jobs if not job.is_done(args.work)]
    for job in due:
        print(f"{job.setting} {job.seed}: about {job.minutes:.0f} minutes")
    hours = sum(job.minutes for job in due) / 60 / args.streams
    print(f"{len(due)} of {len(jobs)} jobs: about {hours:.1f} hours", flush=True)
    if args.list:
        return 0
    (args.work / "logs").mkdir(parents=True, exist_ok=True)
    try:
        return 0 if asyncio.run(streams(due, args)) else 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped: the same command goes on", flush=True)
        return 130


async def streams(jobs: list[Job], args: argparse.Namespace) -> bool:
    """Each with its share of the cores; what they share the first makes, and others wait."""
    main = asyncio.current_task()
    assert main is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
    cores, due = sorted(os.sched_getaffinity(0)), iter(jobs)
    parts = [set(cores[number :: args.streams]) for number in range(args.streams)]
    results = await asyncio.gather(*(stream(due, part, args) for part in parts))
    return all(all(done) for done in results)


async def stream(jobs: Iterator[Job], cores: set[int], args: argparse.Namespace) -> list[bool]:
    """One job after the other."""
    return [await attempt(job, cores, args) for job in jobs]


async def attempt(job: Job, cores: set[int], args: argparse.Namespace) -> bool:
    """Run a job on these cores; ends it when this program is ended."""
    start, log = time.monotonic(), args.work / "logs" / f"{job.setting}_{job.seed}.log"
    with open(log, "ab") as file:
        command = job.command(args.work, args.overrides)
        process = await asyncio.create_subprocess_exec(*command, stdout=file, stderr=file)
        os.sched_setaffinity(process.pid, cores)
        try:
            done = await process.wait() == 0
        finally:
            if process.returncode is None:
                process.terminate()
    minutes = (time.monotonic() - start) / 60
    said = f"{minutes:.1f} minutes" if done else f"FAILED, see {log}"
    print(f"{time.strftime('%H:%M')} {job.setting} {job.seed}: {said}", flush=True)
    return done
