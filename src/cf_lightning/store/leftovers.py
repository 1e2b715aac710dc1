"""What was begun in a store and not finished: partial folders, and those of tools that were killed."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cf_lightning.store.artifacts import Store

HIDDEN = (
    ".removed-",
    ".import-",
    ".test-",
)  # at the top; a process removes its own at its end


@dataclass(frozen=True)
class Leftover:
    """A folder that is no artifact.

    Attributes:
        path: of the folder.
        name: below the store's root.
        bytes: of its files.
        changed: the last of them, in seconds since the epoch.
    """

    path: Path
    name: str
    bytes: int
    changed: float

    @property
    def key(self) -> tuple[str, str] | None:
        """Stage and key of what it was to become; ``None`` of a hidden folder."""
        return None if self.name.startswith(".") else (self.path.parent.name, self.path.stem)

    def is_held(self, store: Store) -> bool:
        """Whether a process works on it now."""
        if self.key is None:
            return False
        with idle(store, *self.key) as is_idle:
            return not is_idle


@contextmanager
def idle(store: Store, stage: str, key: str) -> Iterator[bool]:
    """Hold an artifact against everybody; whether neither a run nor processes that outlived it hold it."""
    ranks = store.partial(stage, key).with_suffix(".ranks")
    with store.free(stage, key) as is_free:
        if not (is_free and ranks.exists()):
            yield is_free
            return
        with open(ranks, "r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


def leftovers(store: Store) -> list[Leftover]:
    """All of them, in order."""
    partial = [store.partial(stage, key) for stage, key in store.unfinished()]
    hidden = [folder for start in HIDDEN for folder in sorted(store.root.glob(f"{start}*"))]
    return [
        Leftover(path, str(path.relative_to(store.root)), *measured(path)) for path in (*partial, *hidden)
    ]


def measured(folder: Path) -> tuple[int, float]:
    """Bytes of all files in a folder, and when the last one was changed."""
    sizes, last = 0, folder.lstat().st_mtime
    for place, _, files in os.walk(folder):
        for file in files:
            try:
                found = os.lstat(os.path.join(place, file))
            except FileNotFoundError:  # somebody is at work
                continue
            sizes, last = sizes + found.st_size, max(last, found.st_mtime)
    return sizes, last
