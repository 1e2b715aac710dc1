"""What grows with use: a store's artifacts and bytes, and what a run costs beside its stages."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from front_door import process
from measuring import Bound, Row, in_turn, ratio, seconds

from cf_lightning.runs import Run
from cf_lightning.store import MANIFEST, Store
from cf_lightning.store.verifying import verify

ARTIFACTS, LOOKS, ROUNDS = 10_000, 1000, 3
FILES, FILE_BYTES = 8, 128 * 2**20


def rows(folder: Path) -> Iterator[Row]:
    yield from looking_up(folder)
    yield verifying(folder)
    yield from beside(folder)


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
    note = f"of one that is not there {median(none):.3f} ms"
    what = f"Store of {ARTIFACTS} artifacts: look-up of one"
    yield Row(what, found, Bound("<=", 20, " ms"), "ms", note=note, digits=3)
    plan = ("-m", "cf_lightning", "+experiment=demo", "plan=true")
    ours, theirs = in_turn(
        process(*plan, f"runtime.store={folder}/full", f"hydra.run.dir={folder}/run"),
        process(*plan, f"runtime.store={folder}/empty", f"hydra.run.dir={folder}/run"),
        rounds=3,
    )
    yield ratio("`plan=true` with this store / with an empty one", ours, theirs, Bound("<=", 1.1), "s")


def verifying(folder: Path) -> Row:
    """All bytes of a store and their checksums, in this process; the same files by the system's tool."""
    store = Store(str(folder / "whole"))
    for number in range(FILES):
        partial = store.partial("extract", f"{number:020x}")
        partial.mkdir(parents=True)
        (partial / "features.npy").write_bytes(os.urandom(FILE_BYTES))
        store.publish("extract", f"{number:020x}", {})
    files = sorted(store.root.glob("*/*/features.npy"))

    def ours() -> None:
        assert not list(verify(store))

    def theirs() -> None:
        subprocess.run(["sha256sum", *files], check=True, stdout=subprocess.DEVNULL)

    megabytes = FILES * FILE_BYTES / 1e6
    fast, plain = in_turn(lambda: megabytes / seconds(ours), lambda: megabytes / seconds(theirs))
    return ratio("`store verify` / `sha256sum` (1 GiB in 8 files)", fast, plain, Bound(">=", 0.8), "MB/s")


def beside(folder: Path) -> Iterator[Row]:
    """Everything but the stages: Hydra, plan, imports, checksums, the report."""
    whole, stages, checks = [], [], []
    for round_ in range(ROUNDS):
        places = (f"runtime.store={folder}/beside_{round_}", f"hydra.run.dir={folder}/beside_run_{round_}")
        whole.append(process("-m", "cf_lightning", "+experiment=demo", *places)())
        run = Run.read(folder / f"beside_run_{round_}")
        stages.append(sum(step.seconds or 0 for step in run.steps))
        checks.append(seconds(lambda: [Store(run.store).verify(one.stage, one.key) for one in run.steps]))  # noqa: B023
    more = [all_of_it - 1.05 * of_stages for all_of_it, of_stages in zip(whole, stages, strict=True)]
    what, bound = "`+experiment=demo`, the whole process, beyond 1.05 of its stages", Bound("<=", 10, " s")
    yield Row(what, more, bound, "s", median(whole), median(stages), "s", digits=1)
    yield ratio(
        "Checksums of all that a run reads / `+experiment=demo`",
        checks,
        whole,
        Bound("<=", 0.02),
        "s",
        digits=4,
    )
