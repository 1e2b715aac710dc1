"""What grows with use: a store of ten thousand artifacts, and what a run costs beside its stages."""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from front_door import process
from measuring import Bound, Row, in_turn, middle, ratio, seconds

from cf_lightning.runs import Run
from cf_lightning.store import MANIFEST, Store

ARTIFACTS, LOOKS = 10_000, 1000


def rows(folder: Path) -> Iterator[Row]:
    yield from looking_up(folder)
    yield beside(folder)


def looking_up(folder: Path) -> Iterator[Row]:
    store, full = Store(str(folder / "full")), folder / "full" / "extract"
    for number in range(ARTIFACTS):
        artifact = full / f"{number:020x}"
        artifact.mkdir(parents=True)
        files = {f"file{i}": {"bytes": i, "sha256": ["0" * 64]} for i in range(4)}
        (artifact / MANIFEST).write_text(json.dumps({"seconds": 1.0, "files": files}))

    def look(step: int) -> float:
        keys = [f"{number * step:020x}" for number in range(LOOKS)]
        return 1000 * seconds(lambda: [store.manifest("extract", key) for key in keys]) / LOOKS

    found, none = in_turn(lambda: look(7), lambda: look(ARTIFACTS + 1), rounds=5)
    sides = f"of one that is not there {median(none):.3f} ms"
    what = f"Store of {ARTIFACTS} artifacts: look-up of one"
    yield Row(what, middle(found, " ms"), sides, median(found), Bound("<=", 20, " ms"))
    plan = ("-m", "cf_lightning", "+experiment=demo", "plan=true")
    ours, theirs = in_turn(
        process(*plan, f"runtime.store={folder}/full", f"hydra.run.dir={folder}/run"),
        process(*plan, f"runtime.store={folder}/empty", f"hydra.run.dir={folder}/run"),
        rounds=3,
    )
    yield ratio("`plan=true` with this store / with an empty one", ours, theirs, Bound("<=", 1.1), "s")


def beside(folder: Path) -> Row:
    """Everything but the stages: Hydra, plan, imports, checksums, the report."""
    demo = ("-m", "cf_lightning", "+experiment=demo", "seed=7")
    places = (f"runtime.store={folder}/beside", f"hydra.run.dir={folder}/beside_run")
    whole = process(*demo, *places)()
    stages = sum(step.seconds or 0 for step in Run.read(folder / "beside_run").steps)
    more = whole - 1.05 * stages
    what = "`+experiment=demo`, the whole process, beyond 1.05 of its stages"
    return Row(what, f"{more:.1f} s", f"{whole:.1f} against {stages:.1f} s", more, Bound("<=", 10, " s"))
