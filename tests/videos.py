"""Video files for tests: every frame carries its number, which survives lossy coding and resizing."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

ROWS, COLUMNS = 2, 5  # the number's bits, as black and white blocks in the upper half


def numbered_frames(count: int, height: int = 48, width: int = 64, first: int = 0) -> np.ndarray:
    """Frames ``first`` to ``first + count``, each below 1024, above a turning colour wheel: (T, H, W, 3)."""
    bits = 1 << np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    rows = np.arange(height // 2) * ROWS // (height // 2)
    columns = np.arange(width) * COLUMNS // width
    phase = 2 * np.pi * np.arange(width) / width
    frames = np.empty((count, height, width, 3), np.uint8)
    for frame, number in zip(frames, range(first, first + count), strict=True):
        frame[: height // 2] = np.where(number & bits, 235, 20)[rows][:, columns, None]
        for channel in range(3):
            wave = np.sin(phase + channel * 2 * np.pi / 3 + number / 5)
            frame[height // 2 :, :, channel] = np.rint(128 + 90 * wave)
    return frames


def number_of(frame: Any) -> int:
    """The number of a decoded frame, an array or tensor (3, h, w) of uint8 that shows the whole picture."""
    grey = np.asarray(frame, np.float64).mean(0)
    height, width = grey.shape
    number = 0
    for bit in range(ROWS * COLUMNS):
        y = int((bit // COLUMNS + 0.5) / ROWS * (height / 2))
        x = int((bit % COLUMNS + 0.5) / COLUMNS * width)
        number += int(grey[y - 1 : y + 2, x - 1 : x + 2].mean() > 128) << bit
    return number


def write_video(
    path: Path,
    frames: np.ndarray,
    *,
    codec: str = "libx264",
    fps: int = 10,
    times: Sequence[float] | None = None,
    gop: int = 12,
    b_frames: int = 2,
    pixel_format: str = "yuv420p",
    rotation: int = 0,
    metadata: bytes = b"",
    sound: bool = False,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode frames into a container that the path's suffix names.

    Args:
        path: where to write it.
        frames: (T, H, W, 3) uint8 RGB; H and W even for most codecs in yuv420p.
        codec: libx264, libx265, libvpx-vp9, libsvtav1, mpeg4, png (with ``pixel_format="rgba"``), ...
        fps: frames a second; frame i is shown at i / fps.
        times: when each frame is shown instead, in seconds, rising: a variable frame rate.
        gop: a key frame at least every so many frames.
        b_frames: at most so many in a row; vp9 and av1 ignore it.
        pixel_format: of the encoded video.
        rotation: degrees clockwise that a player turns the frames by (MP4 and MOV): 90, 180 or 270.
        metadata: the title, in any bytes.
        sound: add a second of silence.
        options: the encoder's own.
        container_options: the muxer's own, such as ``{"movflags": "faststart"}``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    base = Fraction(1, fps) if times is None else Fraction(1, 1000)
    stamps = list(range(len(frames))) if times is None else [round(time * 1000) for time in times]
    quiet = {"libx265": {"x265-params": "log-level=none"}, "libsvtav1": {"preset": "12"}}
    with av.open(str(path), "w", container_options=container_options, metadata_encoding="latin-1") as file:
        if metadata:
            file.metadata["title"] = metadata.decode("latin-1")
        stream = file.add_stream(codec, rate=fps, options={**quiet.get(codec, {}), **(options or {})})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        if rotation:
            stream.set_display_rotation(-rotation)
        stream.codec_context.time_base = base
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b_frames if codec in ("libx264", "libx265", "mpeg4") else 0
        track = file.add_stream("aac", rate=16000, layout="mono") if sound else None
        file.start_encoding()
        for pixels, stamp in zip(frames, stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = stamp, base
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if track is not None:
            _write_silence(file, track)
    return path


def write_sound(path: Path) -> Path:
    """A second of silence and no picture."""
    with av.open(str(path), "w") as file:
        _write_silence(file, file.add_stream("aac", rate=16000, layout="mono"))
    return path


def _write_silence(file: Any, track: Any) -> None:
    for start in range(0, 16000, 1000):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, start
        file.mux(track.encode(frame))
    file.mux(track.encode(None))
