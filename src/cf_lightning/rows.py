"""Row files: arrays on disk whose row i is sample i, written by several processes, resumed after a kill."""

import fcntl
import io
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cf_lightning.errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from cf_lightning.data.index import Index

MISSING, WRITTEN, SKIPPED = 0, 1, 2


class RowFile:
    """A ``.npy`` file of known size that is filled row by row, in any order and by any number of processes.

    Beside ``features.npy`` lies ``features.done`` with one byte for each row: missing, written or
    skipped (the sample cannot be decoded; its row is zeros). Opening a file of the same shape and
    dtype continues it, anything else begins anew; a file lock makes that safe whoever comes first.

    Rows go to disk with ``pwrite``, not through a shared mmap: a full disk is an error message
    there and a SIGBUS here, and written pages stay out of the process's memory. A row's byte is written
    only after the row was synced, so that not even a power cut leaves a byte without its row.

    Args:
        path: the ``.npy`` file.
        shape: of the whole array; the first axis counts the rows.
        dtype: of the whole array.

    Raises:
        StoreError: the file cannot be written.
    """

    SYNC_SECONDS: ClassVar[float] = 2.0

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: "DTypeLike") -> None:
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self._done_path = path.with_suffix(".done")
        self._row_bytes = int(np.prod(shape[1:])) * self.dtype.itemsize
        self._header = _npy_header(shape, self.dtype)
        self._pending: list[tuple[int, bytes]] = []
        self._synced = time.monotonic()
        with self._os_errors():
            self._data = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            self._done = os.open(self._done_path, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._done, fcntl.LOCK_EX)
            if not self._can_continue():
                self._begin()
            fcntl.flock(self._done, fcntl.LOCK_UN)

    def write(self, start: int, rows: np.ndarray, state: int = WRITTEN) -> None:
        """Write consecutive rows.

        Args:
            start: the first row's number.
            rows: (n, ...) of the file's dtype.
            state: ``WRITTEN`` or ``SKIPPED``.

        Raises:
            StoreError: the file cannot be written, for example because the disk is full.
        """
        if rows.dtype != self.dtype or rows.shape[1:] != self.shape[1:]:
            raise ValueError(f"{self.path} holds {self.dtype} {self.shape}, not {rows.dtype} {rows.shape}")
        if start < 0 or start + len(rows) > self.shape[0]:
            raise ValueError(f"rows {start} to {start + len(rows)} are not in {self.path} {self.shape}")
        with self._os_errors():
            offset = len(self._header) + start * self._row_bytes
            _pwrite(self._data, np.ascontiguousarray(rows).data.cast("B"), offset)
        self._pending.append((start, bytes([state]) * len(rows)))
        if time.monotonic() - self._synced > self.SYNC_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Sync the rows, then record them: in this order, whatever ends the process in between."""
        with self._os_errors():
            os.fsync(self._data)
            for start, states in self._pending:
                _pwrite(self._done, memoryview(states), start)
        self._pending.clear()
        self._synced = time.monotonic()

    def close(self) -> None:
        """Flush and close; ``pending`` and ``skipped`` still work. Closing twice is harmless."""
        if self._data >= 0:
            self.flush()
            os.close(self._data)
            os.close(self._done)
            self._data = self._done = -1

    def pending(self) -> np.ndarray:
        """(N,) bool: the rows that no process has recorded yet."""
        return np.asarray(self._states() == MISSING)

    def skipped(self) -> np.ndarray:
        """(n,) int64, ascending: the rows whose sample could not be decoded."""
        return np.flatnonzero(self._states() == SKIPPED)

    def assert_complete(self) -> None:
        """Raise ``StoreError`` with the number of missing rows, if there are any."""
        missing = np.flatnonzero(self.pending())
        if len(missing):
            raise StoreError(
                f"{self.path}: {len(missing)} of {self.shape[0]} rows are missing, from row {missing[0]} on"
            )

    def _states(self) -> np.ndarray:
        return np.fromfile(self._done_path, np.uint8)

    def _can_continue(self) -> bool:
        """Whether what lies there has this shape and dtype and a byte for each row."""
        size = len(self._header) + self.shape[0] * self._row_bytes
        return (
            os.fstat(self._data).st_size == size
            and os.fstat(self._done).st_size == self.shape[0]
            and os.pread(self._data, len(self._header), 0) == self._header
        )

    def _begin(self) -> None:
        """Make both files anew, sparse; interrupted anywhere, the next attempt begins anew too."""
        os.ftruncate(self._done, 0)
        os.fsync(self._done)
        os.ftruncate(self._data, 0)
        _pwrite(self._data, memoryview(self._header), 0)
        os.ftruncate(self._data, len(self._header) + self.shape[0] * self._row_bytes)
        os.ftruncate(self._done, self.shape[0])

    @contextmanager
    def _os_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be written ({error.strerror}): free space or rights there, "
                f"or choose another place with runtime.store=..."
            ) from error


def open_rows(path: Path) -> np.memmap:
    """The array of a ``.npy`` file, not loaded into memory; whatever is done to it, the file stays as it is.

    Raises:
        StoreError: it is truncated, not there, or no array.
    """
    try:
        # copy-on-write and not read-only: torch warns of memory that it may not write
        array: np.memmap = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"{path} is missing or truncated: {error}") from None
    return array


def describe_rows(folder: Path, name: str, index: "Index", **more: Any) -> None:
    """Write ``<name>.json``, which says to which index the rows of ``<name>.npy`` belong.

    Args:
        folder: where ``<name>.npy`` lies.
        name: of the array.
        index: the samples, in the order of the rows.
        more: further facts, JSON values.
    """
    array = open_rows(folder / f"{name}.npy")
    width = {"dim": array.shape[1]} if array.ndim == 2 else {}
    facts = {"index": index.fingerprint, "rows": len(array), **width, "dtype": str(array.dtype), **more}
    partial = folder / f"{name}.json.tmp"
    partial.write_text(json.dumps(facts, indent=2) + "\n")
    os.replace(partial, folder / f"{name}.json")


def read_rows(folder: Path, name: str, index: "Index") -> np.memmap:
    """The array ``<name>.npy``, read-only and not loaded into memory; row i is sample i of ``index``.

    Raises:
        StoreError: it belongs to another index, is truncated, or is not there.
    """
    path = folder / f"{name}.json"
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from None
    if facts.get("index") != index.fingerprint:
        raise StoreError(
            f"{folder / name}.npy belongs to the samples with fingerprint {facts.get('index')}, "
            f"not to those of {index.origin} ({index.fingerprint})"
        )
    array = open_rows(folder / f"{name}.npy")
    if len(array) != len(index):
        raise StoreError(f"{folder / name}.npy has {len(array)} rows for {len(index)} samples")
    return array


def read_skipped(folder: Path) -> np.ndarray:
    """(n,) int64: the rows of a features artifact whose sample could not be decoded.

    Raises:
        StoreError: ``skipped.npy`` is truncated or not there.
    """
    path = folder / "skipped.npy"
    try:
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.int64)
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from None


def _npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    buffer = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()


def _pwrite(descriptor: int, data: memoryview, offset: int) -> None:
    """Write everything; a single ``pwrite`` stops at 2 GB."""
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
