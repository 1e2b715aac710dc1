"""What every source of images is."""

from abc import ABC
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cf_lightning.data.index import Index
from cf_lightning.data.source import DEMO, Source

if TYPE_CHECKING:
    from torch import Tensor


class ImageSource(Source, ABC):
    """Images, each a file or what else ``decode`` knows to read."""

    GIVES: ClassVar[str] = "images"
    SUFFIXES: ClassVar[tuple[str, ...]] = (
        *(".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
    )
    EMBEDDED: ClassVar[Path] = DEMO / "demo.zip"

    def image(self, index: Index, row: int) -> "Tensor":
        """Decode sample ``row`` to (3, H, W) uint8 RGB, upright by its EXIF orientation.

        Raises:
            Undecodable: the file is missing or cannot be decoded; the message names it.
        """
        if index.resized is None:
            with self.naming(index, row):
                return self.decode(index, row)
        from cf_lightning.data.decoding import decode_image

        encoded = index.resized.encoded(row)
        with self.naming(index, row):
            if not encoded:
                raise ValueError("nor could it be when the images were resized")
            return decode_image(encoded, self.MAX_PIXELS)

    def sample(self, index: Index, row: int, random: bool = False) -> "Tensor":
        """The same: an image is seen whole."""
        return self.image(index, row)

    def pictures(self, index: Index, row: int) -> "Tensor":
        """(1, 3, H, W) uint8: the image itself."""
        return self.image(index, row)[None]

    def decode(self, index: Index, row: int) -> "Tensor":
        """As ``image``, with errors as the decoder raises them; a source of another kind overrides this.

        Raises:
            OSError: the file is missing.
            ValueError: it cannot be decoded.
        """
        from cf_lightning.data.decoding import decode_image

        return decode_image(self.encoded(index, row), self.MAX_PIXELS)
