"""A video that was published as a folder of JPEG files."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize as resized

from cf_lightning.data.decoding import decode_image
from cf_lightning.data.video.base import Video


class JpegFrames(Video):
    """The ``*.jpg`` of a folder in the order of their names; frame i is shown from i / fps on.

    Args:
        folder: of the frames.
        fps: frames a second at which they were taken.
        resize: short side of what is given, pixels.
        interpolation: ``bilinear`` or ``bicubic``, antialiased.
        max_pixels: a larger frame is refused.

    Raises:
        OSError: there is no such folder.
        ValueError: there is no frame in it.
    """

    def __init__(self, folder: Path, fps: float, resize: int, interpolation: str, max_pixels: int) -> None:
        self._files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".jpg")
        if not self._files:
            raise ValueError("there is no frame, that is no *.jpg, in the folder")
        self.begin, self.num_frames = 0.0, len(self._files)
        self.end = self.num_frames / fps
        self._shown = np.arange(self.num_frames) / fps
        self._resize, self._mode = resize, InterpolationMode(interpolation)
        self._max_pixels = max_pixels

    def frames(self, times: np.ndarray) -> Tensor:
        """The frame that is shown at each time: (n, 3, h, w) uint8 RGB; see ``Video.frames``.

        Raises:
            ValueError: a frame cannot be decoded, or is not as large as the others.
        """
        numbers = np.searchsorted(self._shown, times, side="right") - 1
        wanted, places = np.unique(numbers.clip(0), return_inverse=True)
        pictures = [self._frame(number) for number in wanted]
        if len({picture.shape for picture in pictures}) > 1:
            raise ValueError("its frames are not all of one shape")
        return torch.stack(pictures)[torch.from_numpy(places)]

    def close(self) -> None:
        """Nothing is kept open."""

    def _frame(self, number: int) -> Tensor:
        file = self._files[number]
        try:
            picture = decode_image(file.read_bytes(), self._max_pixels)
        except ValueError as error:
            raise ValueError(f"{file.name}: {error}") from error
        resized_picture: Tensor = resized(picture, [self._resize], self._mode, antialias=True)
        return resized_picture
