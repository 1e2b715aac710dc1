"""Images that were decoded once: how they are kept, and where each of them lies."""

import os
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import Field

from cf_lightning.config import Component

if TYPE_CHECKING:
    from cf_lightning.data.views import View


class Cache(Component):
    """Resized images as JPEGs in the store: part of the keys of all that sees them.

    Attributes:
        short_side: pixels. A larger image is resized to it, antialiased; a smaller one keeps its size.
        quality: of the JPEGs.
    """

    short_side: int = Field(ge=1)
    quality: int = Field(default=95, ge=1, le=100)

    def check_view(self, view: "View") -> None:
        """Raise ``ValueError`` where a view would enlarge what was made smaller."""
        if self.short_side < view.resize:
            raise ValueError(
                f"cache.short_side={self.short_side} is less than view.resize={view.resize}, so that images "
                f"would be made small and then enlarged; take {view.resize} or more"
            )


class Resized:
    """The JPEGs of an artifact of ``stages.resized.Resize``, by row.

    Args:
        folder: of the artifact.
        places: (N, 3) int64 of each row: the shard's number, the offset in it, and the bytes, 0 where the
            image could not be decoded.
    """

    FILE: ClassVar[str] = "places.npy"

    def __init__(self, folder: Path, places: np.ndarray) -> None:
        self.folder, self.places = folder, places

    @classmethod
    def found(cls, folder: Path) -> Self | None:
        """What lies in an artifact's folder; ``None`` where it holds no images."""
        file = folder / cls.FILE
        return cls(folder, np.load(file, mmap_mode="r")) if file.exists() else None

    def encoded(self, row: int) -> bytes:
        """The JPEG of a row, empty where there is none.

        Raises:
            OSError: the shard cannot be read.
        """
        shard, offset, size = self.places[row].tolist()
        path = self.folder / shard_name(shard)
        return os.pread(_opened(path, os.getpid()).fileno(), size, offset) if size else b""

    def take(self, rows: np.ndarray) -> "Resized":
        """Those of (n,) int64 ``rows``, which are numbered anew."""
        return Resized(self.folder, self.places[rows])


def shard_name(number: int) -> str:
    """Of the tar in the artifact's folder."""
    return f"shard-{number:05d}.tar"


@lru_cache(512)  # a process may hold 1,024 open files; one that falls out is closed
def _opened(path: Path, process: int) -> FileIO:
    return open(path, "rb", buffering=0)
