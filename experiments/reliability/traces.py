"""What a run leaves in the world: processes, locks, and artifacts that are not what they look like."""

import fcntl
import json
import time
from pathlib import Path

import psutil

from cf_lightning.store import MANIFEST, checksums


def left_behind(store: Path, patience: float) -> list[str]:
    """The processes that name the store and the locks that are held, after so many seconds still."""
    deadline = time.monotonic() + patience
    while left := [*processes_of(store), *held_locks(store)]:
        if time.monotonic() > deadline:
            return left
        time.sleep(0.1)
    return []


def processes_of(folder: Path) -> list[str]:
    """Command lines, other than the zombies', that name the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if str(folder) in line and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"process {line[-80:]}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def held_locks(store: Path) -> list[str]:
    """The locks of artifacts that cannot be taken."""
    found = []
    for path in store.glob("*/*.lock"):
        with open(path) as file:  # as filelock does, but for reading: the disk may be read-only by now
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(f"lock {path.name}")
    return found


def unfinished(store: Path) -> list[str]:
    """The published artifacts whose files are not those of their manifest."""
    return [
        f"{folder.parent.name}/{folder.name}"
        for folder in store.glob("*/*")
        if folder.is_dir() and not folder.suffix and not is_whole(folder)
    ]


def is_whole(folder: Path) -> bool:
    """Every file of the manifest is there with its sha256, and no other."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        there = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
        return there == {*files, MANIFEST} and all(
            checksums(folder / name) == told["sha256"] for name, told in files.items()
        )
    except (OSError, ValueError, KeyError):
        return False
