"""What every source of videos is."""

import re
from abc import ABC
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import ValidationInfo, field_validator

from cf_lightning.data.cache import Cache
from cf_lightning.data.clip_view import ClipView
from cf_lightning.data.index import Index
from cf_lightning.data.source import DEMO, Source

if TYPE_CHECKING:
    from torch import Tensor

    from cf_lightning.data.video.base import Video

SEGMENT = re.compile(r"(?P<path>.*)#t=(?P<start>[0-9.]+)?(?:,(?P<end>[0-9.]+))?")


class VideoSource(Source, ABC):
    """Videos, each a file or what else ``open`` knows to read; a row of the index is a video.

    A part of a video is a sample of its own where its key ends in ``#t=START,END``, in seconds
    (W3C Media Fragments URI 1.0, section 4.2.1).

    Attributes:
        decoder: ``auto`` is torchcodec where it and FFmpeg's libraries are there, and PyAV else.
    """

    view: ClipView = ClipView()
    decoder: Literal["auto", "torchcodec", "pyav"] = "auto"

    GIVES: ClassVar[str] = "clips"
    SUFFIXES: ClassVar[tuple[str, ...]] = (
        *(".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4"),
        *(".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv"),
    )
    EMBEDDED: ClassVar[Path] = DEMO / "clips.zip"
    FRAMES: ClassVar[int] = 3

    @field_validator("cache")
    @classmethod
    def _cache_fits(cls, cache: Cache | None, settings: ValidationInfo) -> None:
        if cache:
            raise ValueError("only images are resized once and kept, no videos; leave it out")

    def open(self, index: Index, row: int) -> "Video":
        """The whole video that ``row`` is or is a part of, to be closed by the caller.

        Raises:
            OSError: the file is missing.
            ValueError: it cannot be decoded.
        """
        from cf_lightning.data.video.opening import open_video

        in_container = index.table["shard"][row].as_py() is not None
        return open_video(
            self.encoded(index, row) if in_container else self.folder() / split_key(index.key(row))[0],
            self.decoder,
            self.view.resize,
            self.view.interpolation,
            self.MAX_PIXELS,
        )

    def sample(self, index: Index, row: int, random: bool = False) -> "Tensor":
        """(T, 3, h, w) uint8 frames of one clip, or (clips, T, 3, h, w) of several.

        The short side is the view's ``resize``. When a random clip begins, torch's global generator draws.
        """
        with self.naming(index, row), self.open(index, row) as video:
            times = self.view.times(*_span(video, index.key(row)), video.fps, random)
            frames = video.frames(times.ravel())
        return frames.reshape(*times.shape, *frames.shape[1:]) if len(times) > 1 else frames

    def pictures(self, index: Index, row: int) -> "Tensor":
        """(F, 3, h, w) uint8: a filmstrip from the beginning to the end."""
        with self.naming(index, row), self.open(index, row) as video:
            begin, end = _span(video, index.key(row))
            return video.frames(begin + (end - begin) * (np.arange(self.FRAMES) + 0.5) / self.FRAMES)


def split_key(key: str) -> tuple[str, float, float | None]:
    """Path, start and end in seconds of a sample; ``None`` is the video's end."""
    found = SEGMENT.fullmatch(key)
    if found is None:
        return key, 0.0, None
    start, end = found["start"], found["end"]
    return found["path"], float(start or 0), None if end is None else float(end)


def _span(video: "Video", key: str) -> tuple[float, float]:
    """When a sample begins and ends in its video."""
    _, start, end = split_key(key)
    begin, last = video.begin + start, video.end if end is None else min(video.begin + end, video.end)
    if begin >= last:
        raise ValueError(f"it begins at {start:g} s and the video has {video.end - video.begin:.2f} s")
    return begin, last
