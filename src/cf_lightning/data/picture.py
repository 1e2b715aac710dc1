"""An image before it is known what of it will be seen: no more than that is decoded."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, Self

from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode


class Box(NamedTuple):
    """A part of an image, in pixels of the whole."""

    top: int
    left: int
    height: int
    width: int


class Picture:
    """An image of known size, upright, that is decoded when a part of it is asked for.

    Args:
        height: of the whole, in pixels.
        width: likewise.
        read: called with a box and a factor >= 1; gives (..., 3, h, w) uint8 of that box, each side smaller
            by at most this factor where the decoder saves time by it.
    """

    def __init__(self, height: int, width: int, read: Callable[[Box, float], Tensor]) -> None:
        self.height, self.width, self._read = height, width, read

    @classmethod
    def of(cls, pixels: "Tensor | Picture") -> "Picture":
        """(..., 3, H, W) uint8 that are decoded already."""
        if isinstance(pixels, Picture):
            return pixels

        def read(box: Box, _: float) -> Tensor:
            top, left, height, width = box
            return pixels[..., top : top + height, left : left + width]

        return cls(pixels.shape[-2], pixels.shape[-1], read)

    def within(self, context: Callable[[], AbstractContextManager[None]]) -> Self:
        """The same, read inside of a context: of one that names the file in errors."""

        def read(box: Box, factor: float) -> Tensor:
            with context():
                return self._read(box, factor)

        return type(self)(self.height, self.width, read)

    @property
    def box(self) -> Box:
        """The whole."""
        return Box(0, 0, self.height, self.width)

    def pixels(self) -> Tensor:
        """(3, H, W) uint8: the whole as it is."""
        return self._read(self.box, 1.0)

    def resized(self, box: Box, size: tuple[int, int], mode: InterpolationMode, gap: float | None) -> Tensor:
        """A box of it, resized with antialiasing to (3, *size) uint8.

        Args:
            box: what is seen.
            size: height and width of the result.
            mode: of the interpolation.
            gap: the decoder may reduce the box to so many times ``size`` (libjpeg: by 2, 4 or 8); ``None``
                has it decoded whole.
        """
        factor = min(box.height / size[0], box.width / size[1]) / gap if gap else 1.0
        pixels = self._read(box, max(1.0, factor))
        if pixels.shape[-2:] == size:
            return pixels
        if pixels.ndim == 3:
            # torch sees in the strides of a batch, and of no image, that it is channels last
            batch = pixels.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
            return interpolate(batch, size, mode=mode.value, antialias=True)[0]
        frames = interpolate(pixels.flatten(0, -4), size, mode=mode.value, antialias=True)
        return frames.reshape(*pixels.shape[:-2], *size)
