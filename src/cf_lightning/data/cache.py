"""Images that were decoded once: how they are kept, and where each of them lies."""

import mmap
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from cf_lightning.config import Component
from cf_lightning.rows import open_rows

if TYPE_CHECKING:
    from cf_lightning.data.picture import Picture
    from cf_lightning.data.views import View


class Cache(Component):
    """Resized images in the store: part of the keys of all that sees them.

    Attributes:
        short_side: pixels. A larger image is resized to it, antialiased; a smaller one keeps its size.
        encoding: ``jpeg``, or ``raw`` pixels, which need no decoding and four to five times the disk.
        quality: of the JPEGs, 95 unless it is set.
        reducing_gap: of the images that are resized, as of ``View``.
    """

    short_side: int = Field(ge=1)
    encoding: Literal["jpeg", "raw"] = "jpeg"
    quality: int | None = Field(default=None, ge=1, le=100)
    reducing_gap: float | None = Field(default=2.0, ge=1)

    @field_validator("quality")
    @classmethod
    def _of_jpegs(cls, quality: int | None, settings: ValidationInfo) -> int | None:
        if settings.data.get("encoding") != "raw":
            return 95 if quality is None else quality
        if quality is not None:
            raise ValueError(
                "encoding=raw loses nothing and has no quality; leave it out, or set encoding=jpeg"
            )
        return None

    def check_view(self, view: "View") -> None:
        """Raise ``ValueError`` where a view would enlarge what was made smaller."""
        if self.short_side < view.resize:
            raise ValueError(
                f"cache.short_side={self.short_side} is less than view.resize={view.resize}, so that images "
                f"would be made small and then enlarged; take {view.resize} or more"
            )


class Resized:
    """The images of an artifact of ``stages.resized.Resize``, by row.

    Args:
        folder: of the artifact.
        places: (N, 3) int64 of each row: the shard's number, the offset in it, and the bytes, 0 where the
            image could not be decoded.
        shapes: (N, 2) int64 of raw pixels, their height and width; ``None`` where the bytes are JPEGs.
    """

    PLACES: ClassVar[str] = "places.npy"
    SHAPES: ClassVar[str] = "shapes.npy"

    def __init__(self, folder: Path, places: np.ndarray, shapes: np.ndarray | None) -> None:
        self.folder, self.places, self.shapes = folder, places, shapes

    @classmethod
    def found(cls, folder: Path) -> Self | None:
        """What lies in an artifact's folder; ``None`` where it holds no images."""
        places, shapes = folder / cls.PLACES, folder / cls.SHAPES
        if not places.exists():
            return None
        return cls(folder, _loaded(places), _loaded(shapes) if shapes.exists() else None)

    def picture(self, row: int, max_pixels: int) -> "Picture | None":
        """The image of a row, ``None`` where there is none.

        Args:
            row: of the index.
            max_pixels: as ``decoding.open_image`` takes it.

        Raises:
            OSError: the shard cannot be read.
        """
        import torch

        from cf_lightning.data.decoding import open_image
        from cf_lightning.data.picture import Picture

        shard, offset, size = self.places[row].tolist()
        if not size:
            return None
        mapped = _mapped(self.folder, shard)
        if self.shapes is None:
            return open_image(mapped[offset : offset + size], max_pixels)
        pixels = torch.frombuffer(mapped, dtype=torch.uint8, count=size, offset=offset)
        return Picture.of(pixels.view(*self.shapes[row].tolist(), 3).permute(2, 0, 1))

    def take(self, rows: np.ndarray) -> "Resized":
        """Those of (n,) int64 ``rows``, which are numbered anew."""
        shapes = None if self.shapes is None else self.shapes[rows]
        return Resized(self.folder, self.places[rows], shapes)


def _loaded(path: Path) -> np.ndarray:
    return np.asarray(open_rows(path))  # a plain array looks up a row faster than a ``memmap``


def shard_name(number: int) -> str:
    """Of the tar in the artifact's folder."""
    return f"shard-{number:05d}.tar"


@lru_cache(512)  # one that falls out is unmapped with its last image
def _mapped(folder: Path, shard: int) -> mmap.mmap:
    """A shard, of which only what is touched is read; private, for torch wants memory that may be written."""
    with open(folder / shard_name(shard), "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
