"""A video that was published as a folder of JPEG files."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, resize

from cf_lightning.data.decoding import decode_image
from cf_lightning.data.video.base import TimedVideo


class JpegFrames(TimedVideo):
    """The ``*.jpg`` of a folder in the order of their names; frame i is shown from i / fps on.

    Args:
        folder: of the frames.
        fps: frames a second at which they were taken.
        short_side: of the frames, in pixels.
        interpolation: ``bilinear`` or ``bicubic``, antialiased.
        max_pixels: a larger frame is refused.

    Raises:
        OSError: there is no such folder.
        ValueError: there is no frame in it.
    """

    def __init__(
        self, folder: Path, fps: float, short_side: int, interpolation: str, max_pixels: int
    ) -> None:
        self.files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".jpg")
        if not self.files:
            raise ValueError("there is no frame, that is no *.jpg, in the folder")
        super().__init__(np.arange(len(self.files)) / fps, len(self.files) / fps)
        self.short_side, self.mode = short_side, InterpolationMode(interpolation)
        self.max_pixels = max_pixels

    def decode(self, rows: np.ndarray) -> Tensor:
        """Frames by their numbers, (n, 3, h, w).

        Raises:
            ValueError: a frame is no image that can be decoded, or has another shape than the others.
        """
        pictures = [self._picture(self.files[row]) for row in rows]
        if len({picture.shape for picture in pictures}) > 1:
            raise ValueError("its frames are not all of one shape")
        return torch.stack(pictures)

    def close(self) -> None:
        """Nothing is kept open."""

    def _picture(self, file: Path) -> Tensor:
        try:
            picture = decode_image(file.read_bytes(), self.max_pixels)
        except ValueError as error:
            raise ValueError(f"{file.name}: {error}") from error
        return resize(picture, [self.short_side], self.mode, antialias=True)  # type: ignore[no-any-return]
