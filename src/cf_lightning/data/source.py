"""What every source of samples is: something that lists them and reads one by its row."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PrivateAttr, ValidationInfo, field_validator

from cf_lightning.config import Component
from cf_lightning.data.cache import Cache
from cf_lightning.data.index import Index
from cf_lightning.data.remote import is_url, refuse_password
from cf_lightning.data.splits import hold_out
from cf_lightning.data.views import View
from cf_lightning.errors import DataError, Undecodable

if TYPE_CHECKING:
    from torch import Tensor

    from cf_lightning.data.picture import Picture

DEMO = Path(__file__).parent / "demo"


class Source(Component, ABC):
    """Samples somewhere below a root.

    Attributes:
        root: a folder or an uncompressed zip file; ``embedded`` is the demo data of this package; of
            shards also a URL.
        on_error: what an undecodable sample does: ``fail`` ends the run with its name, ``skip`` leaves
            it out, lists it and counts it.
        view: what is seen of a sample at extraction and test.
        cache: images are decoded once, resized, and read from there; ``None`` reads them as they are.
        holdout: share of the samples set aside as ``val`` where the data itself names no split but train.
        test_share: share set aside as ``test`` likewise.
        split_seed: ``None`` sets aside by the hash of each sample's name, whatever else is there; a
            number draws them, the same share of every class.
        GIVES: what a network gets of a sample: ``images`` or ``clips``.
        SUFFIXES: of the files that are samples.
        EMBEDDED: the demo data.
        FRAMES: F, the pictures of a sample that a person is shown.
    """

    root: str | None = None
    on_error: Literal["fail", "skip"] = "fail"
    view: View = View()
    cache: Cache | None = None
    holdout: float = Field(default=0.05, ge=0, lt=1)
    test_share: float = Field(default=0.0, ge=0, lt=1)
    split_seed: int | None = Field(default=None, ge=0)

    GIVES: ClassVar[str]
    SUFFIXES: ClassVar[tuple[str, ...]]
    EMBEDDED: ClassVar[Path]
    FRAMES: ClassVar[int] = 1
    MAX_PIXELS: ClassVar[int] = 178_956_970  # Pillow's own limit against decompression bombs

    _open: dict[tuple[int, str], int] = PrivateAttr(default_factory=dict)

    @field_validator("cache")
    @classmethod
    def _cache_fits(cls, cache: Cache | None, settings: ValidationInfo) -> Cache | None:
        if cache and "view" in settings.data:
            cache.check_view(settings.data["view"])
        return cache

    @abstractmethod
    def list_samples(self) -> pa.Table:
        """A table with the columns of ``index.SCHEMA``, in the order in which rows are numbered."""

    @abstractmethod
    def sample(self, index: Index, row: int, random: bool = False) -> "Tensor | Picture":
        """Sample ``row`` as what ``view.build()`` takes.

        Args:
            index: of this source.
            row: the sample's number.
            random: draw from torch's global generator which part of it, where it has several.

        Raises:
            Undecodable: it is missing or cannot be decoded; the message names it.
            DataError: what it lies in is gone.
        """

    @abstractmethod
    def pictures(self, index: Index, row: int) -> "Tensor":
        """(F, 3, H, W) uint8: what a person is shown of sample ``row``, in the order of time.

        Raises:
            DataError: as ``sample``.
        """

    def index(self) -> Index:
        """List what is there now.

        Raises:
            DataError: nothing there, a sample named twice, an empty file that is not to be skipped, or
                what the source itself finds wrong.
        """
        index = Index(self.list_samples(), self.root or type(self).__name__).check_unique()
        empty = index.table.filter(pc.equal(index.table["size"], 0))["key"]
        if len(empty) and self.on_error == "fail":
            raise DataError(
                f"root={self.root}: {empty[0]} is empty (0 bytes), as one of {len(empty)} files; "
                f"mend or remove them, or set data.on_error=skip"
            )
        index = hold_out(index, {"val": self.holdout, "test": self.test_share}, self.split_seed)
        pa.default_memory_pool().release_unused()  # Arrow would keep four times what the index holds
        return index

    def folder(self) -> Path:
        """The root as a path.

        Raises:
            DataError: it is not set or not there, or a URL.
        """
        if self.root is None:
            raise DataError(f"root is not set: give the folder or zip file with your {self.GIVES}")
        if is_url(self.root):
            refuse_password(f"root={self.root}")
            raise DataError(
                f"root={self.root}: only tar shards are read from a URL, with data=shards or "
                f"data=video_shards; download the rest, or pack it in shards"
            )
        path = self.EMBEDDED if self.root == "embedded" else Path(self.root).expanduser()
        if not path.exists():
            raise DataError(f"root={self.root}: there is no such file or folder")
        return path

    def encoded(self, index: Index, row: int) -> bytes:
        """The bytes of sample ``row`` as they lie on disk."""
        shard = index.table["shard"][row].as_py()
        if shard is None:
            return (self.folder() / index.key(row)).read_bytes()
        size, offset = index.table["size"][row].as_py(), index.table["offset"][row].as_py()
        return os.pread(self._descriptor(shard), size, offset)

    def where(self, index: Index, row: int) -> str:
        """Of sample ``row``, for messages: in one line, whatever the name of the file."""
        key = index.key(row)
        return f"root={self.root}: {key if key.isprintable() else ascii(key)}"

    @contextmanager
    def naming(self, index: Index, row: int) -> Iterator[None]:
        """Whatever a decoder raises within becomes an ``Undecodable`` that names the sample.

        But for a want of memory, which the sample may not be to blame for: a ``DataError``, never skipped.
        """
        try:
            yield
        except MemoryError as error:
            raise DataError(
                f"{self.where(index, row)}: there is not enough memory to decode it; take fewer "
                "runtime.workers, or remove it"
            ) from error
        except (OSError, RuntimeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise Undecodable(
                f"{self.where(index, row)} cannot be decoded ({reason}); "
                f"mend or remove it, or set data.on_error=skip"
            ) from error

    def _descriptor(self, shard: str) -> int:
        """An open container, one for each process; with pread it stays usable after a fork."""
        name = (os.getpid(), shard)
        if name not in self._open:
            path = self.folder()
            self._open[name] = os.open(path / shard if path.is_dir() else path, os.O_RDONLY)
        return self._open[name]
