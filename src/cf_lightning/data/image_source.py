"""What every source of images is."""

from abc import ABC
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cf_lightning.data.index import Index
from cf_lightning.data.source import DEMO, Source

if TYPE_CHECKING:
    from torch import Tensor

    from cf_lightning.data.picture import Picture


class ImageSource(Source, ABC):
    """Images, each a file or what else ``decode`` knows to read."""

    GIVES: ClassVar[str] = "images"
    SUFFIXES: ClassVar[tuple[str, ...]] = (
        *(".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
    )
    EMBEDDED: ClassVar[Path] = DEMO / "demo.zip"
    MAX_BYTES: ClassVar[int] = 3 * Source.MAX_PIXELS  # what the largest image takes without compression

    def sample(self, index: Index, row: int, random: bool = False) -> "Picture":
        """Open sample ``row``; its pixels are decoded when it is known which of them are seen.

        Raises:
            Undecodable: here or when it is read: it is missing or cannot be decoded; the message names it.
        """
        naming = partial(self.naming, index, row)
        if index.resized is None:
            with naming():
                return self.decode(index, row).within(naming)
        picture = index.resized.picture(row, self.MAX_PIXELS)
        with naming():
            if picture is None:
                raise ValueError("nor could it be when the images were resized")
        return picture.within(naming)

    def image(self, index: Index, row: int) -> "Tensor":
        """(3, H, W) uint8 RGB: sample ``row`` whole, upright by its EXIF orientation.

        Raises:
            Undecodable: as ``sample``.
        """
        return self.sample(index, row).pixels()

    def pictures(self, index: Index, row: int) -> "Tensor":
        """(1, 3, H, W) uint8: the image itself."""
        return self.image(index, row)[None]

    def decode(self, index: Index, row: int) -> "Picture":
        """As ``sample``, with errors as the decoder raises them; a source of another kind overrides this.

        Raises:
            OSError: the file is missing.
            ValueError: it cannot be decoded.
        """
        from cf_lightning.data.decoding import open_image

        if (size := index.table["size"][row].as_py() or 0) > self.MAX_BYTES:
            raise ValueError(f"the file has {size} bytes; at most {self.MAX_BYTES} are read of an image")
        return open_image(self.encoded(index, row), self.MAX_PIXELS)
