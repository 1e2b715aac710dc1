"""The front door: whole processes of ``python -m cf_lightning`` against one that imports torch."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from measuring import Bound, Row, Side, in_turn, ratio, seconds


def rows(folder: Path) -> Iterator[Row]:
    program = ("-m", "cf_lightning")
    demo = (*program, "+experiment=demo", f"runtime.store={folder}/store", f"hydra.run.dir={folder}/run")
    import_torch = process("-c", "import torch")

    ours, theirs = in_turn(process(*program, "--help"), import_torch)
    yield ratio("`--help` / `import torch`", ours, theirs, Bound("<=", 0.7), "s")

    first = process(*demo)()
    ours, theirs = in_turn(process(*demo, "plan=true"), import_torch)
    yield ratio(
        "`+experiment=demo plan=true`, all cached / `import torch`", ours, theirs, Bound("<=", 1), "s"
    )

    [again] = in_turn(process(*demo), rounds=3)
    bound = Bound("<=", max(0.02 * first, 4), " s")
    note = f"{median(again) / first:.1%} of the first run's {first:.1f} s"
    yield Row("`+experiment=demo` again, all cached", again, bound, "s", note=note)


def process(*arguments: str) -> Side:
    """The seconds of one Python process, from its start to its end."""

    def run() -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    return lambda: seconds(run)
