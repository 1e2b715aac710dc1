"""What an open video is, whatever decodes it."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


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
                the first one is given, after the last one's the last.

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
