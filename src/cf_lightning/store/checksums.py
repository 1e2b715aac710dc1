"""Checksums of files, block by block, on every core."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

BLOCK = 64 * 2**20  # bytes under one checksum
PIECE = 2**20  # bytes in memory at once, for each thread


def threads() -> ThreadPoolExecutor:
    """One for each core, which hashlib uses in full, and not so many that a disk would only seek."""
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1))


def begin(
    pool: ThreadPoolExecutor, file: Path, read: Callable[[int], object] | None = None
) -> list[Future[str]]:
    """Start on the checksums of a file.

    Args:
        pool: of threads that compute them.
        file: to read.
        read: is told, by these threads, of bytes that were read.

    Returns:
        For each block the sha256 to come, or the ``OSError`` that a failing disk gives.
    """
    return [pool.submit(_sum, file, start, read) for start in range(0, file.stat().st_size, BLOCK)]


def checksums(file: Path) -> list[str]:
    """The sha256 of each ``BLOCK`` bytes of a file."""
    with threads() as pool:
        return [one.result() for one in begin(pool, file)]


def _sum(file: Path, start: int, read: Callable[[int], object] | None) -> str:
    sha, end = hashlib.sha256(), start + BLOCK
    with open(file, "rb", buffering=0) as stream:
        stream.seek(start)
        buffer = memoryview(bytearray(min(PIECE, os.fstat(stream.fileno()).st_size)))
        while start < end and (count := stream.readinto(buffer[: end - start])):
            sha.update(buffer[:count])
            start += count
            if read:
                read(count)
    return sha.hexdigest()
