"""``Store``: where artifacts lie, who makes them, and their publishing in one step."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cf_lightning.errors import StoreError
from cf_lightning.store.checksums import begin, threads
from cf_lightning.store.damage import verified
from cf_lightning.store.manifest import MANIFEST, read_manifest, sealed
from cf_lightning.store.refusals import explained

PARTIAL = ".partial"


class Store:
    """A folder of artifacts on a POSIX file system whose locks work.

    Args:
        root: made if it is missing.

    Raises:
        StoreError: it cannot be written, or locks do not work there.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser().absolute()

    def test(self) -> None:
        """Write, lock, rename and remove a file, so that a bad store is found before anything runs."""
        with explained(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.root, prefix=".test-") as folder:
                probe = Path(folder) / "probe"
                probe.write_bytes(b"x" * 4096)
                os.replace(probe, probe.with_suffix(".moved"))
                lock = probe.with_suffix(".lock")
                try:
                    with FileLock(lock), FileLock(lock, timeout=0, is_singleton=False):
                        raise StoreError(
                            f"runtime.store={self.root}: file locks do not exclude each other there"
                        )
                except Timeout:
                    return

    def path(self, stage: str, key: str) -> Path:
        """Where the artifact lies or will lie."""
        return self.root / stage / key

    def partial(self, stage: str, key: str) -> Path:
        """Where it is in the making."""
        return self.root / stage / f"{key}{PARTIAL}"

    def finished(self) -> list[tuple[str, str]]:
        """Stage and key of every artifact, in order."""
        return [(folder.parent.name, folder.name) for folder in self._folders() if "." not in folder.name]

    def unfinished(self) -> list[tuple[str, str]]:
        """Stage and key of everything in the making, in order."""
        partial = [folder for folder in self._folders() if folder.suffix == PARTIAL]
        return [(folder.parent.name, folder.stem) for folder in partial]

    def _folders(self) -> Iterator[Path]:
        for stage in sorted(self.root.glob("[!.]*/")):
            yield from (folder for folder in sorted(stage.iterdir()) if folder.is_dir())

    def manifest(self, stage: str, key: str) -> dict[str, Any] | None:
        """What made the artifact; ``None`` when there is none.

        Raises:
            StoreError: it is damaged, or written by a later release.
        """
        with explained(self.root):
            return read_manifest(self.path(stage, key))

    @contextmanager
    def lock(self, stage: str, key: str, say: Any) -> Iterator[None]:
        """Hold the artifact's lock; ``say`` is called with a line when another run has it."""
        with self.free(stage, key) as is_free:
            if is_free:
                yield
                return
        say(f"{stage} {key}: waiting for another run that is making it")
        with explained(self.root):
            held = self._lock(stage, key)
            held.acquire()
        try:
            yield
        finally:
            held.release()

    @contextmanager
    def free(self, stage: str, key: str) -> Iterator[bool]:
        """Hold the artifact's lock if nobody else does; whether that is so."""
        with explained(self.root):
            (self.root / stage).mkdir(parents=True, exist_ok=True)
            held = self._lock(stage, key)
            with suppress(Timeout):
                held.acquire(timeout=0)
        try:
            yield held.is_locked
        finally:
            held.release()

    def _lock(self, stage: str, key: str) -> FileLock:
        return FileLock(self.root / stage / f"{key}.lock")

    def publish(self, stage: str, key: str, facts: dict[str, Any]) -> dict[str, Any]:
        """Checksum the files, write the manifest, flush everything, and rename the folder in one step.

        Returns:
            The manifest: ``facts``, the time, and the files.
        """
        partial = self.partial(stage, key)
        with explained(self.root), threads() as pool:
            there = [
                file for file in sorted(partial.rglob("*")) if file.is_file() and file != partial / MANIFEST
            ]
            sums = {file: begin(pool, file) for file in there}
            files = {
                str(file.relative_to(partial)): {
                    "bytes": file.stat().st_size,
                    "sha256": [one.result() for one in of_file],
                }
                for file, of_file in sums.items()
            }
            made = datetime.now(UTC).isoformat(timespec="seconds")
            manifest = sealed({**facts, "made": made, "files": files})
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=2))
            put(partial, self.path(stage, key))
        return manifest

    def verify(self, stage: str, key: str, *names: str) -> None:
        """Compare the named files of a finished artifact with its manifest, or all; once in a process.

        Raises:
            StoreError: a file is missing or changed.
        """
        with explained(self.root):
            verified(self.path(stage, key), names or None)


def put(folder: Path, final: Path) -> None:
    """Flush all that a complete folder holds, and rename it in one step."""
    for file in folder.rglob("*"):
        _flush(file)
    _flush(folder)
    os.replace(folder, final)
    _flush(final.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear(folder: Path) -> None:
    """Empty a partial folder that must not be continued."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
