"""Tar shards in an object store: listed and read by range through fsspec, and again where a connection drops.

Credentials come from where the store's own tools look for them (environment, profile, instance), never from
a URL: it is written to logs and manifests.
"""

import io
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from cf_lightning.errors import ConfigError, DataError

ATTEMPTS = 5  # to read something
WAIT = 1.0  # seconds before the second attempt, twice as many before each further one
BLOCK = (
    2**20
)  # bytes that a listing reads at a time: many small members of a tar, or the header of a large one
PASSWORD = re.compile(r"(?<=://)[^/@]*:(?!\d+/)[^@]*(?=@)")  # a port is none

T = TypeVar("T")


def is_url(root: str | None) -> bool:
    """Whether a root is no path of this machine."""
    return root is not None and "://" in root


def refuse_password(text: str) -> None:
    """Raise ``ConfigError`` where a text has a URL with a password in it, and do not repeat that."""
    if PASSWORD.search(text):
        raise ConfigError(
            f"{PASSWORD.sub('***', text)}: a URL must not hold credentials, which would be written to logs; "
            f"leave them to the environment or the store's own configuration"
        )


@dataclass(frozen=True)
class Bucket:
    """What lies below a URL that fsspec knows: ``s3://``, ``gs://``, ``abfs://``, ...

    Every method raises ``DataError`` when the last attempt has failed, with the root, the shard and the
    error. That is no damaged sample: ``on_error: skip`` leaves nothing out for it.

    Args:
        root: the URL.
    """

    root: str

    def shards(self) -> dict[str, int]:
        """Bytes of each ``*.tar`` that is not hidden, by its path below the root, sorted."""
        refuse_password(f"root={self.root}")

        def find() -> dict[str, int]:
            system, top = _filesystem(self.root, os.getpid())
            system.invalidate_cache()
            found = system.find(top, detail=True)
            return {name[len(top) :].lstrip("/"): int(about["size"]) for name, about in found.items()}

        sizes = self._again("its list of shards", find)
        return {
            name: sizes[name] for name in sorted(sizes) if name.endswith(".tar") and "/." not in "/" + name
        }

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """So many bytes of a shard."""

        def part() -> bytes:
            system, top = _filesystem(self.root, os.getpid())
            content: bytes = system.cat_file(f"{top.rstrip('/')}/{shard}", offset, offset + size)
            if len(content) != size:
                raise ConnectionError(f"{len(content)} of {size} bytes came")
            return content

        return self._again(shard, part) if size else b""

    def open(self, shard: str, size: int) -> io.BufferedReader:
        """A shard of so many bytes to go through, ``BLOCK`` bytes at a time."""
        return io.BufferedReader(_Ranges(self, shard, size), BLOCK)

    def _again(self, what: str, act: Callable[[], T]) -> T:
        """What ``act`` returns, at the latest at the last attempt."""
        attempt = 1
        while True:
            try:
                return act()
            except DataError:
                raise
            except (FileNotFoundError, PermissionError) as error:
                raise DataError(f"root={self.root}: {what} cannot be read ({_reason(error)})") from error
            except Exception as error:  # every store has exceptions of its own
                if attempt == ATTEMPTS:
                    raise DataError(
                        f"root={self.root}: {what} could not be read in {ATTEMPTS} attempts "
                        f"({_reason(error)}); what is done is kept: start the same command again"
                    ) from error
            time.sleep(WAIT * 2 ** (attempt - 1))
            attempt += 1


class _Ranges(io.RawIOBase):
    """A shard as a file that is read by ranges."""

    def __init__(self, bucket: Bucket, shard: str, size: int) -> None:
        self.bucket, self.shard, self.size, self.position = bucket, shard, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        self.position = start + offset
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: Any) -> int:
        size = max(0, min(len(buffer), self.size - self.position))
        buffer[:size] = self.bucket.read(self.shard, self.position, size)
        self.position += size
        return size


@cache
def _filesystem(root: str, process: int) -> tuple[Any, str]:
    """The file system and what it calls the root; each process has its own, for a fork takes no threads."""
    from fsspec.core import url_to_fs

    try:
        system, top = url_to_fs(root)
    except (ImportError, ValueError) as error:  # it says what to install
        raise DataError(f"root={root}: {error}") from None
    return system, str(top)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")
