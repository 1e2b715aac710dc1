"""What each option of the student brings: runs ``options.py``, seed after seed, two jobs at a time.

It may be stopped at any time (Ctrl-C, SIGTERM, kill) and goes on where it was when it is started again: every
job is a command of the framework, and what the store holds is not computed again. Seed 0 of all options comes
first.

python experiments/student_options/student_options.py --list
python experiments/student_options/student_options.py --packs FOLDER --work FOLDER
python experiments/student_options/summarise.py FOLDER
"""

import argparse
import asyncio
import csv
import io
import os
import signal
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from options import BASELINE, BATCH_SIZE, EPOCHS, OPTIONS, K, Option

TINY_IMAGENET, CALTECH = "tinyimagenet_a100_64.zip", "caltech101_72.zip"
MINUTES = 5.0  # of the paper's student on a core of its own, transfer included; to estimate with
TEACHER = 40  # epochs


@dataclass(frozen=True)
class Job:
    """An option with a seed."""

    option: Option
    seed: int

    @property
    def minutes(self) -> float:
        return MINUTES * self.option.cost

    def command(self, args: argparse.Namespace) -> list[str]:
        """The framework's own; ``args.overrides`` come last."""
        tiny, caltech = (f"{args.packs}/{name}" for name in (TINY_IMAGENET, CALTECH))
        targets = ("data", "target.tiny_imagenet", "target.caltech101")
        rows = "random,teacher,student" if self.option is BASELINE else "student"
        return [
            *(sys.executable, "-m", "cf_lightning", "+experiment=label_noise_r50"),
            *("model=torchvision", "model.name=resnet18", "target=[tiny_imagenet,caltech101]"),
            *(f"data=manifest data.root={tiny} data.manifest={args.work}/known.csv".split()),
            *(f"target.tiny_imagenet.root={tiny} target.caltech101.root={caltech}".split()),
            f"target.tiny_imagenet.manifest={args.work}/other.csv",
            *(f"{node}.view.{side}" for node in targets for side in ("resize=40", "crop=32")),
            *(f"pretrain.epochs={TEACHER} pretrain.batch_size={BATCH_SIZE} cluster.k={K}".split()),
            *(f"clusterfit.epochs={EPOCHS} clusterfit.batch_size={BATCH_SIZE}".split()),
            *(f"contestant=[{rows}]", f"clusterfit.seed={self.seed}", *self.option.overrides.split()),
            f"runtime.store={args.work}/artifacts",
            f"hydra.run.dir={args.work}/runs/{self.option.name}/{self.seed}",
            *args.overrides,
        ]


def write_manifests(pack: Path, folder: Path) -> None:
    """Every other class of the pack is known to teacher and student, the rest is a target.

    A known class has 200 training images, and 25 for the curve; another has 100, and 125 to test on.
    """
    with zipfile.ZipFile(pack) as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("index.csv"), "utf-8")))
    known = set(sorted({row["label"] for row in rows})[::2])
    seen: dict[str, int] = {}
    other = []
    for row in sorted((row for row in rows if row["label"] not in known), key=lambda row: row["path"]):
        seen[row["label"]] = seen.get(row["label"], 0) + 1
        other.append({**row, "split": "train" if seen[row["label"]] <= 100 else "test"})
    for name, chosen in (("known", [row for row in rows if row["label"] in known]), ("other", other)):
        with open(folder / f"{name}.csv", "w", newline="") as file:
            table = csv.DictWriter(file, ("path", "split", "label"), lineterminator="\n")
            table.writeheader()
            table.writerows(chosen)


async def attempt(job: Job, cores: set[int], args: argparse.Namespace) -> bool:
    """Run a job on these cores; ends it when this program is ended."""
    start, log = time.monotonic(), args.work / "logs" / f"{job.option.name}_{job.seed}.log"
    with open(log, "wb") as file:
        process = await asyncio.create_subprocess_exec(*job.command(args), stdout=file, stderr=file)
        os.sched_setaffinity(process.pid, cores)
        try:
            done = await process.wait() == 0
        finally:
            if process.returncode is None:
                process.terminate()
    minutes = (time.monotonic() - start) / 60
    said = f"{minutes:.1f} minutes" if done else f"FAILED, see {log}"
    print(f"{time.strftime('%H:%M')} {job.option.name} {job.seed}: {said}", flush=True)
    return done


async def stream(jobs: Iterator[Job], cores: set[int], args: argparse.Namespace) -> list[bool]:
    """One job after the other."""
    return [await attempt(job, cores, args) for job in jobs]


async def study(jobs: list[Job], args: argparse.Namespace) -> bool:
    """Streams of jobs, each with its share of the cores; what they share the first makes, and others wait."""
    main = asyncio.current_task()
    assert main is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
    cores, due = sorted(os.sched_getaffinity(0)), iter(jobs)
    parts = [set(cores[number :: args.streams]) for number in range(args.streams)]
    results = await asyncio.gather(*(stream(due, part, args) for part in parts))
    return all(all(done) for done in results)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "overrides", nargs="*", help="of every job, for trials: clusterfit.epochs=1, plan=true"
    )
    parser.add_argument("--packs", type=Path, default=Path(), help=f"folder of {TINY_IMAGENET} and {CALTECH}")
    parser.add_argument("--work", type=Path, default=Path(), help="folder of the store, the runs, the logs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="SEED")
    parser.add_argument("--options", nargs="+", default=[option.name for option in OPTIONS], metavar="NAME")
    parser.add_argument("--streams", type=int, default=2, help="jobs at a time (%(default)s)")
    parser.add_argument("--list", action="store_true", help="only say what would be run, and how long")
    args = parser.parse_args()
    if unknown := set(args.options) - {option.name for option in OPTIONS}:
        parser.error(f"no such option: {', '.join(sorted(unknown))}")
    chosen = [option for option in OPTIONS if option is BASELINE or option.name in args.options]
    jobs = [Job(option, seed) for seed in args.seeds for option in chosen]
    for job in jobs:
        print(f"{job.option.name} {job.seed}: about {job.minutes:.0f} minutes, {job.option.overrides or '-'}")
    hours = sum(job.minutes for job in jobs) / 60 / args.streams
    print(f"{len(jobs)} jobs: about {hours:.1f} hours, and the teacher before them", flush=True)
    if args.list:
        return 0
    if len(os.sched_getaffinity(0)) < args.streams:
        parser.error(f"--streams {args.streams}: there are {len(os.sched_getaffinity(0))} cores")
    args.packs, args.work = args.packs.resolve(), args.work.resolve()
    (args.work / "logs").mkdir(parents=True, exist_ok=True)
    write_manifests(args.packs / TINY_IMAGENET, args.work)
    try:
        return 0 if asyncio.run(study(jobs, args)) else 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped: the same command goes on", flush=True)
        return 130


if __name__ == "__main__":
    sys.exit(main())
