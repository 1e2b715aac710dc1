"""What an open video is, whatever decodes it."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

PUNCTUAL = 1e-6  # seconds: a time that was computed may miss a frame's own by a rounding error


def resized(height: int, width: int, short_side: int) -> tuple[int, int]:
    """(height, width) of a frame with this short side and the same shape, rounded as torchvision does."""
    if height <= width:
        return short_side, short_side * width // height
    return short_side * height // width, short_side


class Video(ABC):
    """An open video file, or a folder of frames: a context manager.

    Attributes:
        begin: presentation time of the first frame, seconds; not always 0.
        end: the end of the last frame's presentation, seconds; larger than ``begin``.
        num_frames: how many frames it has, at least 1.
    """

    begin: float
    end: float
    num_frames: int

    @property
    def fps(self) -> float:
        """Frames per second, on average."""
        return self.num_frames / (self.end - self.begin)

    @abstractmethod
    def frames(self, times: np.ndarray) -> "Tensor":
        """The frame that is shown at each time: the last one whose presentation time is <= it.

        Args:
            times: (n,) float64, seconds in any order, repeats allowed; before the first frame's time
                the first one is given, after the last one's the last. A microsecond early is in time.

        Returns:
            (n, 3, h, w) uint8 RGB, upright; the short side is what the video was opened with.

        Raises:
            ValueError: the file is damaged there; the message says how.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the file and the memory back; twice does no harm."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TimedVideo(Video):
    """A video whose frames' times are known when it is opened.

    Args:
        times: (n,) float64, rising: when each frame is shown, seconds.
        end: the end of the last one's presentation, seconds.
    """

    def __init__(self, times: np.ndarray, end: float) -> None:
        self.times, self.num_frames = times, len(times)
        self.begin, self.end = float(times[0]), end

    def frames(self, times: np.ndarray) -> "Tensor":
        """The frame that is shown at each time, (n, 3, h, w) uint8; each is decoded once."""
        rows = np.searchsorted(self.times, np.asarray(times, np.float64) + PUNCTUAL, "right") - 1
        distinct, places = np.unique(np.maximum(rows, 0), return_inverse=True)
        return self.decode(distinct)[places]

    @abstractmethod
    def decode(self, rows: np.ndarray) -> "Tensor":
        """Frames by their numbers.

        Args:
            rows: (n,) int64, rising, without repeats, at least one.

        Returns:
            (n, 3, h, w) uint8 RGB, upright.
        """
