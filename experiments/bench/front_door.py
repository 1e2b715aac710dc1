"""The front door: whole processes of ``python -m cf_lightning`` against one that imports torch."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from measuring import Row, Side, bounded, in_turn, ratio, seconds


def rows(folder: Path) -> Iterator[Row]:
    program = ("-m", "cf_lightning")
    demo = (*program, "+experiment=demo", f"runtime.store={folder}/store", f"hydra.run.dir={folder}/run")
    import_torch = process("-c", "import torch")

    ours, theirs = in_turn(process(*program, "--help"), import_torch)
    yield ratio("`--help` / `import torch`", ours, theirs, "<=", 0.7, "s")

    first = process(*demo)()
    ours, theirs = in_turn(process(*demo, "plan=true"), import_torch)
    yield ratio("`+experiment=demo plan=true`, all cached / `import torch`", ours, theirs, "<=", 1.0, "s")

    [again] = in_turn(process(*demo), rounds=3)
    bound = max(0.02 * first, 4)
    result = f"{median(again):.2f} s ({min(again):.2f} to {max(again):.2f})"
    sides = f"{median(again) / first:.1%} of the first run's {first:.1f} s"
    yield bounded("`+experiment=demo` again, all cached", median(again), result, "<=", bound, sides, " s")


def process(*arguments: str) -> Side:
    """The seconds of one Python process, from its start to its end."""

    def run() -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    return lambda: seconds(run)
