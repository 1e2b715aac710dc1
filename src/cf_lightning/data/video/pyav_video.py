"""Frames by PyAV, whose wheel brings its own FFmpeg: few are decoded, and only those wanted converted."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from av import VideoFrame
from av.video.reformatter import Interpolation
from torch import Tensor

from cf_lightning.data.video.base import TimedVideo
from cf_lightning.data.video.demux import Packets, one_kind_of_error, open_container, video_stream


class PyavVideo(TimedVideo):
    """A video that PyAV decodes, on one thread.

    Args:
        source: the file, or its bytes.
        packets: of this file.
        size: (height, width) of the frames before they are turned upright.
        interpolation: ``bilinear`` or ``bicubic``, by swscale, antialiased.
    """

    def __init__(
        self, source: Path | bytes, packets: Packets, size: tuple[int, int], interpolation: str
    ) -> None:
        super().__init__(packets.times, packets.end)
        self.source, self.packets, self.size = source, packets, size
        self.interpolation = Interpolation[interpolation.upper()]
        self._rewind()

    def decode(self, rows: np.ndarray) -> Tensor:
        """Frames by their numbers, (n, 3, h, w)."""
        return torch.stack([self._picture(self._frame(int(row))) for row in rows])

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _rewind(self) -> None:
        self._container = open_container(self.source)
        self._stream = video_stream(self._container)
        self._decoded: Iterator[VideoFrame] = self._container.decode(self._stream)
        self._row = -1
        self._latest: VideoFrame | None = None

    def _frame(self, row: int) -> VideoFrame:
        """Go on decoding if the frame lies ahead and no key frame is nearer, else from that key frame."""
        keys = self.packets.keys[: np.searchsorted(self.packets.keys, row, "right")]
        if row < self._row or (keys.size and keys[-1] > self._row + 1):
            self._seek(row, keys)
        while self._latest is None or self._row < row:
            if not self._next(row):
                raise ValueError(f"it cannot be decoded up to {self.times[row]:.3f} s (the frame is missing)")
        return self._latest

    def _seek(self, row: int, keys: np.ndarray) -> None:
        """To the last key frame, or further back: MPEG streams land too late, as do times of AVI."""
        for key in keys[:-4:-1]:
            with one_kind_of_error(f"it cannot be searched for {self.times[row]:.3f} s"):
                self._container.seek(int(self.packets.stamps[key]), stream=self._stream)
            self._decoded, self._latest = self._container.decode(self._stream), None
            if self._next(row) and self._row <= key:
                return
        self._container.close()
        self._rewind()

    def _next(self, row: int) -> bool:
        """Decode the next frame on the way to ``row``, if there is one."""
        with one_kind_of_error(f"it cannot be decoded up to {self.times[row]:.3f} s"):
            frame = next(self._decoded, None)
        if frame is None:
            return False
        if self.packets.stamped or (self._latest is None and self.packets.keys.size):
            stamp = (frame.dts or 0) if frame.pts is None else frame.pts
            self._row = int(np.searchsorted(self.packets.stamps, stamp, "right")) - 1
        else:
            self._row += 1
        self._latest = frame
        return True

    def _picture(self, frame: VideoFrame) -> Tensor:
        height, width = self.size
        # two steps, as in torchcodec: swscale's one from YUV to small RGB differs by 4/255 in the mean
        rgb = frame.reformat(format="rgb24", threads=1)
        scaled = rgb.reformat(width, height, interpolation=self.interpolation, threads=1)
        upright = np.rot90(scaled.to_ndarray(), round(frame.rotation / 90))
        return torch.from_numpy(np.ascontiguousarray(upright)).permute(2, 0, 1)
