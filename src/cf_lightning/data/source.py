"""What every source of images is: something that lists its samples and decodes one by its row."""

import hashlib
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PrivateAttr

from cf_lightning.config import Component
from cf_lightning.data.index import Index
from cf_lightning.data.views import View
from cf_lightning.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

EMBEDDED = Path(__file__).parent / "demo" / "demo.zip"


class ImageSource(Component, ABC):
    """Images somewhere below a root.

    Attributes:
        root: a folder or an uncompressed zip file; ``embedded`` is the demo data of this package.
        on_error: what an undecodable image does: ``fail`` ends the run with its name, ``skip`` leaves
            it out, lists it and counts it.
        view: size, crop and interpolation at extraction and test.
        holdout: share of the samples set aside as ``val`` where the data itself names no split but train.
    """

    root: str | None = None
    on_error: Literal["fail", "skip"] = "fail"
    view: View = View()
    holdout: float = Field(default=0.05, ge=0, lt=1)

    MAX_PIXELS: ClassVar[int] = 178_956_970  # Pillow's own limit against decompression bombs

    _open: dict[tuple[int, str], int] = PrivateAttr(default_factory=dict)

    @abstractmethod
    def list_samples(self) -> pa.Table:
        """A table with the columns of ``index.SCHEMA``, in the order in which rows are numbered."""

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
        return self._hold_out(index)

    def folder(self) -> Path:
        """The root as a path.

        Raises:
            DataError: it is not set or not there.
        """
        if self.root is None:
            raise DataError("root is not set: give the folder or zip file with your images")
        path = EMBEDDED if self.root == "embedded" else Path(self.root).expanduser()
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

    def image(self, index: Index, row: int) -> "Tensor":
        """Decode sample ``row`` to (3, H, W) uint8 RGB, upright by its EXIF orientation.

        Raises:
            DataError: the file is missing or cannot be decoded; the message names it.
        """
        try:
            return self.decode(index, row)
        except (OSError, RuntimeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"root={self.root}: {index.key(row)} cannot be decoded ({reason}); "
                f"mend or remove it, or set data.on_error=skip"
            ) from error

    def decode(self, index: Index, row: int) -> "Tensor":
        """The same, with errors as the decoder raises them; a source of another kind overrides this.

        Raises:
            OSError: the file is missing.
            ValueError: it cannot be decoded.
        """
        from cf_lightning.data.decoding import decode_image

        return decode_image(self.encoded(index, row), self.MAX_PIXELS)

    def _descriptor(self, shard: str) -> int:
        """An open container, one for each process; with pread it stays usable after a fork."""
        name = (os.getpid(), shard)
        if name not in self._open:
            path = self.folder()
            self._open[name] = os.open(path / shard if path.is_dir() else path, os.O_RDONLY)
        return self._open[name]

    def _hold_out(self, index: Index) -> Index:
        """Move a share of the rows to ``val``, chosen by the hash of their keys, if all rows are train."""
        splits = index.table["split"].to_pylist()
        if set(splits) != {"train"} or not self.holdout:
            return index
        draws = [hashlib.sha256(key.encode()).digest()[:4] for key in index.table["key"].to_pylist()]
        is_val = np.frombuffer(b"".join(draws), dtype=">u4") < self.holdout * 2**32
        column: Any = pa.array(np.where(is_val, "val", "train"))
        position = index.table.schema.get_field_index("split")
        return Index(index.table.set_column(position, "split", column), index.origin)
