"""``.runs/`` of a store: the folders of the runs that used it, and which of them are going on.

Each run has a file there, with the path of its folder, and holds a shared lock on it while it lives. It comes
to be under ``.runs/lock``, which is also held while artifacts are removed: a run is known before it looks for
what is there, or it looks when the removing is done.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock

from cf_lightning.store.refusals import READ_ONLY, explained

RUNS = ".runs"


@contextmanager
def using(root: Path, run: Path) -> Iterator[Callable[[], None]]:
    """Let it be known that a run uses a store, as long as it goes on and afterwards.

    A run that is refused makes no store: where there is none yet, ``using`` gives what is to be called when
    there is. Where a store cannot be written, nothing is known of its runs, and nothing is removed.

    Args:
        root: of the store.
        run: the run's folder.

    Raises:
        StoreError: the disk is full.
    """
    held: list[int] = []

    def enter() -> None:
        if held:
            return
        try:
            held.append(_enter(root, run.absolute()))
        except OSError as error:
            if error.errno not in READ_ONLY:
                with explained(root):
                    raise

    try:
        if root.exists():
            enter()
        yield enter
    finally:
        for file in held:
            os.close(file)


def _enter(root: Path, run: Path) -> int:
    """The descriptor that holds the lock."""
    with removing(root):
        file = os.open(root / RUNS / _name(run), os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(file, fcntl.LOCK_SH)
        os.pwrite(file, os.fsencode(run), 0)
    return file


@contextmanager
def removing(root: Path) -> Iterator[None]:
    """Meanwhile no run begins to use the store."""
    (root / RUNS).mkdir(parents=True, exist_ok=True)
    with FileLock(root / RUNS / "lock"):
        yield


def known(root: Path) -> dict[Path, bool]:
    """The folders of all runs that used the store, and whether each is still going on."""
    found = {}
    for file in sorted((root / RUNS).glob("[0-9a-f]*")):
        with open(file, "rb+" if os.access(file, os.W_OK) else "rb") as stream:
            if folder := stream.read():
                found[Path(os.fsdecode(folder))] = not _alone(stream)
    return found


def forget(root: Path, run: Path) -> None:
    """A run is no more; to be called under ``removing``."""
    (root / RUNS / _name(run)).unlink(missing_ok=True)


def _name(run: Path) -> str:
    return hashlib.sha256(str(run).encode()).hexdigest()[:20]


def _alone(stream: IO[bytes]) -> bool:
    """Nobody else has locked the file; a lock taken here ends when it is closed."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
