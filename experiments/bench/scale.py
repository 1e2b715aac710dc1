"""What grows with use: a store's artifacts and bytes."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from measuring import Bound, Row, in_turn, ratio, seconds

from cf_lightning.store import MANIFEST, Store
from cf_lightning.store.verifying import verify

ARTIFACTS, LOOKS = 10_000, 1000
FILES, FILE_BYTES = 8, 128 * 2**20


def rows(folder: Path) -> Iterator[Row]:
    yield looking_up(folder)
    yield verifying(folder)


def looking_up(folder: Path) -> Row:
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
    return Row(what, found, Bound("<=", 20, " ms"), "ms", note=note, digits=3)


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
