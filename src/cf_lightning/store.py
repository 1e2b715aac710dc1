"""The store: artifacts in folders named by what they mean, published whole or not at all.

``<store>/<stage>/<key>/`` is finished and never changes. ``<key>.partial/`` is in the making and is
continued by the next run that needs it; ``<key>.lock`` is held by the run that makes it.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from cf_lightning.errors import StoreError

BLOCK = 64 * 2**20  # bytes under one checksum
MANIFEST = "manifest.json"


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
        return self.root / stage / f"{key}.partial"

    def manifest(self, stage: str, key: str) -> dict[str, Any] | None:
        """What made the artifact; ``None`` when there is none."""
        with explained(self.root):
            try:
                text = (self.path(stage, key) / MANIFEST).read_text()
            except FileNotFoundError:
                return None
        manifest: dict[str, Any] = json.loads(text)
        return manifest

    @contextmanager
    def lock(self, stage: str, key: str, say: Any) -> Iterator[None]:
        """Hold the artifact's lock; ``say`` is called with a line when another run has it."""
        with explained(self.root):
            (self.root / stage).mkdir(parents=True, exist_ok=True)
            held = FileLock(self.root / stage / f"{key}.lock")
            try:
                held.acquire(timeout=0)
            except Timeout:
                say(f"{stage} {key}: waiting for another run that is making it")
                held.acquire()
        try:
            yield
        finally:
            held.release()

    def publish(self, stage: str, key: str, facts: dict[str, Any]) -> dict[str, Any]:
        """Checksum the files, write the manifest, flush everything, and rename the folder in one step.

        Returns:
            The manifest: ``facts`` and the files.
        """
        partial, final = self.partial(stage, key), self.path(stage, key)
        with explained(self.root):
            files = {
                str(file.relative_to(partial)): {"bytes": file.stat().st_size, "sha256": checksums(file)}
                for file in sorted(partial.rglob("*"))
                if file.is_file()
            }
            manifest = {**facts, "files": files}
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=2))
            for file in partial.rglob("*"):
                _flush(file)
            _flush(partial)
            os.replace(partial, final)
            _flush(final.parent)
        return manifest

    def verify(self, stage: str, key: str) -> None:
        """Compare every file of a finished artifact with its manifest; once in a process.

        Raises:
            StoreError: a file is missing or changed.
        """
        _verify(self.path(stage, key))


@cache
def _verify(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    for name, expected in manifest["files"].items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != expected["bytes"]:
            raise StoreError(f"{file} is missing or truncated; remove {folder} to have it made again")
        if checksums(file) != expected["sha256"]:
            raise StoreError(f"{file} was changed after it was made; remove {folder} to have it made again")


def checksums(file: Path) -> list[str]:
    """The sha256 of each ``BLOCK`` bytes of a file."""
    sums = []
    with open(file, "rb") as stream:
        while block := stream.read(BLOCK):
            sums.append(hashlib.sha256(block).hexdigest())
    return sums


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


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turn the file system's refusals into a ``StoreError`` that says what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        code = error.errno if isinstance(error, OSError) else _os_error(error)
        if code in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(root if root.exists() else root.parent).free / 2**20
            raise StoreError(
                f"runtime.store={root}: the disk is full ({free:,.0f} MiB free); what is done is kept: "
                "make room or move the store, then start the same command again"
            ) from error
        if code in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise StoreError(
                f"runtime.store={root}: cannot be written ({os.strerror(code)}); set runtime.store=FOLDER"
            ) from error
        if isinstance(error, FileNotFoundError) and str(root) in f"{error} {error.filename}":
            raise StoreError(
                f"runtime.store={root}: {error.filename or error} is gone, which this run used; start the "
                "same command again, and what is missing is made anew"
            ) from error
        raise


def _os_error(error: SafetensorError) -> int | None:
    """The number in ``... (os error 28)``, as safetensors reports the file system's refusals."""
    number = re.search(r"os error (\d+)", str(error))
    return int(number.group(1)) if number else None
