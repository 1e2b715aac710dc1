"""What is in a video file without decoding it: its frames' times, its key frames, whether it is whole."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from cf_lightning.data.video.complete import is_cut_short

# FFmpeg's names. It would take pictures and texts for videos, too, and a playlist opens further files
FORMATS = ("mov", "matroska", "avi", "mpeg", "mpegts", "flv", "asf", "ogg")
NO_VIDEO = "not an MP4, MOV, Matroska, WebM, AVI, MPEG, FLV, ASF or Ogg video"


@dataclass(frozen=True)
class Packets:
    """The n frames of a video in the order of their presentation.

    Attributes:
        stream: the video stream's number in its container.
        stamps: (n,) int64, rising: how the container names each frame, in its own unit of time.
        times: (n,) float64, rising: when each is shown, seconds.
        end: the end of the last one's presentation, seconds.
        keys: (k,) int64, rising: the frames that decoding can begin with; empty means only the first can.
        stamped: a decoded frame's own stamp says which it is. Else they are counted from a key frame on:
            AVI has no presentation times, and some files have the same one in every frame.
    """

    stream: int
    stamps: np.ndarray
    times: np.ndarray
    end: float
    keys: np.ndarray
    stamped: bool


def open_container(source: Path | bytes) -> InputContainer:
    """Open a file, or a file's bytes, by PyAV.

    Raises:
        ValueError: empty, truncated, or not a video; the message says which.
        OSError: it is not there or cannot be read.
    """
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
        if not file.read(1):
            raise ValueError("the file is empty")
        cut_short = is_cut_short(file)
    if cut_short:
        raise ValueError("the file is truncated")
    options = {"format_whitelist": ",".join(FORMATS)}
    with one_kind_of_error(NO_VIDEO):
        return av.open(
            str(source.absolute()) if isinstance(source, Path) else io.BytesIO(source),
            "r",
            options=options,
            metadata_errors="replace",
        )


def video_stream(container: InputContainer) -> VideoStream:
    """The video of a container, alone and to be decoded by one thread; an album's cover is none.

    Raises:
        ValueError: there is none.
    """
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        raise ValueError("the file has no video stream")
    if stream.codec_context is None:
        raise ValueError("the video stream is of a kind that FFmpeg does not know")
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    stream.codec_context.thread_count = 1
    return stream


def scan(container: InputContainer, stream: VideoStream) -> Packets:
    """Read every packet of the stream once and decode none.

    Raises:
        ValueError: no frames, or a packet that is damaged or not whole.
    """
    stamps, lengths, keys = [], [], []
    with one_kind_of_error("the file is damaged"):
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise ValueError("the file is truncated or damaged: a packet is not whole")
            if packet.size and not packet.is_discard:  # what an edit list hides is not shown
                stamps.append(packet.dts if packet.pts is None else packet.pts)
                lengths.append(packet.duration or 0)
                keys.append(packet.is_keyframe)
    if not stamps:
        raise ValueError("the video stream has no frames")
    if None in stamps or len(set(stamps)) <= len(stamps) // 2:
        return _by_durations(stream, np.array(lengths))
    # a frame of an MPEG program stream has another stamp after a search than before: begin with the first
    is_key = np.array(keys) & (container.format.name != "mpeg")
    return _by_stamps(stream, np.array(stamps), np.array(lengths), is_key, container.format.name != "avi")


def _by_stamps(
    stream: VideoStream, stamps: np.ndarray, lengths: np.ndarray, keys: np.ndarray, stamped: bool
) -> Packets:
    """Frames in the order of their stamps; of two with the same one, one counts."""
    stamps, first = np.unique(stamps, return_index=True)
    last = int(lengths[first[-1]])
    if not last:  # MP4 may leave the last one open
        last = (stamps[-1] - stamps[0]) / (len(stamps) - 1) if len(stamps) > 1 else 1
    unit = float(stream.time_base or 1)
    times, end = stamps * unit, float((stamps[-1] + last) * unit)
    return Packets(stream.index, stamps, times, end, np.flatnonzero(keys[first]), stamped)


def _by_durations(stream: VideoStream, lengths: np.ndarray) -> Packets:
    """The file does not say when frames are shown, but how long: one after the other, from 0."""
    if not lengths.all():
        raise ValueError("its frames have neither times nor durations")
    ends = np.cumsum(lengths)
    unit = float(stream.time_base or 1)
    none = np.zeros(0, np.int64)
    return Packets(stream.index, ends - lengths, (ends - lengths) * unit, float(ends[-1] * unit), none, False)


@contextmanager
def one_kind_of_error(what: str) -> Iterator[None]:
    """FFmpeg's errors in the ValueErrors of our decoders."""
    try:
        yield
    except av.FFmpegError as error:
        raise ValueError(f"{what} ({error.strerror})") from error
