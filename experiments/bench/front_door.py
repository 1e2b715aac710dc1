"""The front door: whole processes of ``python -m cf_lightning``, and what a run costs beside its stages."""

import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from statistics import median

from measuring import Bound, Row, Side, in_turn, ratio, seconds

from cf_lightning.runs import Run
from cf_lightning.store import Store

PROGRAM, ROUNDS = ("-m", "cf_lightning"), 3


def rows(folder: Path) -> Iterator[Row]:
    demo = (*PROGRAM, "+experiment=demo", f"runtime.store={folder}/0", f"hydra.run.dir={folder}/run_0")
    first = yield from beside(folder)
    doors = process(*PROGRAM, "--help"), process(*demo, "plan=true"), process("-c", "import torch")
    helped, planned, import_torch = in_turn(*doors, rounds=ROUNDS, warm_up=False)
    yield ratio("`--help` / `import torch`", helped, import_torch, Bound("<=", 0.7), "s")
    what = "`+experiment=demo plan=true`, all cached / `import torch`"
    yield ratio(what, planned, import_torch, Bound("<=", 1), "s")

    [again] = in_turn(process(*demo), rounds=ROUNDS, warm_up=False)
    bound = Bound("<=", max(0.02 * first, 4), " s")
    note = f"{median(again) / first:.1%} of the first run's {first:.1f} s"
    yield Row("`+experiment=demo` again, all cached", again, bound, "s", note=note)


def beside(folder: Path) -> Generator[Row, None, float]:
    """Everything but the stages: Hydra, plan, imports, checksums, the report. Returns the run's seconds."""
    whole, stages, checks = [], [], []
    for number in range(ROUNDS):
        places = (f"runtime.store={folder}/{number}", f"hydra.run.dir={folder}/run_{number}")
        whole.append(process(*PROGRAM, "+experiment=demo", *places)())
        run = Run.read(folder / f"run_{number}")
        stages.append(sum(step.seconds or 0 for step in run.steps))
        checks.append(seconds(lambda: [Store(run.store).verify(one.stage, one.key) for one in run.steps]))  # noqa: B023
    more = [all_of_it - 1.05 * of_stages for all_of_it, of_stages in zip(whole, stages, strict=True)]
    what, bound = "`+experiment=demo`, the whole process, beyond 1.05 of its stages", Bound("<=", 10, " s")
    yield Row(what, more, bound, "s", median(whole), median(stages), "s", digits=1)
    what, bound = "Checksums of all that a run reads / `+experiment=demo`", Bound("<=", 0.02)
    yield ratio(what, checks, whole, bound, "s", digits=4)
    return median(whole)


def process(*arguments: str) -> Side:
    """The seconds of one Python process, from its start to its end."""

    def run() -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    return lambda: seconds(run)
