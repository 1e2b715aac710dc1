"""Videos as they come from the world: damaged, mislabelled, unusual, and made to do harm."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np
from PIL import Image

KINDS = {
    "mp4": "libx264",
    "mov": "mpeg4",
    "mkv": "libx264",
    "webm": "libvpx-vp9",
    "avi": "mpeg4",
    "ts": "mpeg2video",
    "mpg": "mpeg2video",
    "flv": "flv",
}


@dataclass(frozen=True)
class Clip:
    """A file and what it has to become.

    Attributes:
        name: of the file, with the ending that it claims.
        content: its bytes, or what makes them, where that takes a while.
        grays: the brightness of its first and of its last frame; ``None`` where nobody can say.
        broken: it may be refused.
    """

    name: str
    content: bytes | Callable[[], bytes]
    grays: tuple[int, int] | None = None
    broken: bool = False


def film(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """(T, H, W, 3) frames from dark to bright."""
    levels = np.linspace(40, 220, count).astype(np.uint8) if count > 1 else np.full(count, 128, np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3))


@cache
def whole(kind: str, count: int = 20, **settings: Any) -> bytes:
    """An intact video."""
    return write(film(count), kind, KINDS[kind], **settings)


def write(
    frames: np.ndarray,
    kind: str,
    codec: str,
    times: list[int] | None = None,
    pixel_format: str = "yuv420p",
    rotation: int = 0,
    gop: int = 12,
    fps: int = 25,
) -> bytes:
    """Encode frames; ``times`` are theirs in milliseconds in place of an even rate."""
    buffer, base = io.BytesIO(), Fraction(1, fps) if times is None else Fraction(1, 1000)
    formats = {"mkv": "matroska", "ts": "mpegts", "mpg": "mpeg"}
    with av.open(buffer, "w", format=formats.get(kind, kind)) as file:
        quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        stream: Any = file.add_stream(codec, rate=fps, options=quiet)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pixel_format
        if rotation:
            stream.set_display_rotation(-rotation)
        stream.codec_context.time_base, stream.codec_context.gop_size = base, gop
        stream.codec_context.thread_count = 1
        file.start_encoding()
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = number if times is None else times[number], base
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return buffer.getvalue()


def clips() -> Iterator[Clip]:
    """All of them but the bombs, in an order that does not change."""
    yield from truncated()
    yield from flipped()
    yield from mislabelled()
    yield from unusual()


def truncated() -> Iterator[Clip]:
    """The first tenths of each kind."""
    for kind in KINDS:
        content = whole(kind)
        for tenth in range(10):
            yield Clip(f"{kind} cut at {tenth}0%.{kind}", content[: len(content) * tenth // 10], broken=True)


def flipped() -> Iterator[Clip]:
    """Each kind with some wrong bits."""
    for kind in KINDS:
        content = whole(kind)
        for seed in range(8):
            rng, damaged = np.random.default_rng([seed, len(content)]), bytearray(content)
            for place in rng.integers(0, len(content), 1 + 2 * seed):
                damaged[place] ^= 1 << int(rng.integers(8))
            yield Clip(f"{kind} flipped {seed}.{kind}", bytes(damaged), broken=True)


def mislabelled() -> Iterator[Clip]:
    """The content decides, whatever the ending says; what is no video is refused."""
    kinds = list(KINDS)
    for kind, ending in zip(kinds, kinds[1:] + kinds[:1], strict=True):
        yield Clip(f"a {kind}.{ending}", whole(kind), (40, 220))
    picture = io.BytesIO()
    Image.new("RGB", (64, 48)).save(picture, "JPEG")
    for name, content in {
        "nothing.mp4": b"",
        "page.mp4": b"<html>404 Not Found</html>\n" * 9,
        "picture.mp4": picture.getvalue(),
        "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/dev/zero\n",
        "list.mp4": b"ffconcat version 1.0\nfile /dev/zero\n",
        "subtitles.mkv": b"1\n00:00:00,000 --> 00:00:09,000\nHello\n",
        "noise.avi": np.random.default_rng(1).bytes(9999),
        "zeros.mov": bytes(9999),
        "sound.mp4": sound(),
        "no frames.mp4": whole("mp4", 0),
        "archive.webm": b"PK\x03\x04" + bytes(60),
    }.items():
        yield Clip(name, content, broken=True)


def unusual() -> Iterator[Clip]:
    """Right, if rare: each has to show what is in it."""
    frames, ends = film(20), (40, 220)
    yield Clip("one frame.mp4", whole("mp4", 1), (128, 128))
    yield Clip("two frames.mkv", whole("mkv", 2), ends)
    for angle in (90, 180, 270):
        yield Clip(f"turned {angle}.mp4", write(frames, "mp4", "libx264", rotation=angle), ends)
    uneven = [0, 10, 1000, 1001, 1002, *range(2000, 17000, 1000)]
    yield Clip("uneven.mp4", write(frames, "mp4", "libx264", uneven), ends)
    yield Clip("uneven.mkv", write(frames, "mkv", "libx264", uneven), ends)
    yield Clip("begins late.mp4", write(frames, "mp4", "libx264", list(range(9000, 11000, 100))), ends)
    yield Clip("10 bits.mp4", write(frames, "mp4", "libx265", pixel_format="yuv420p10le"), ends)
    yield Clip("all of the colours.mp4", write(frames, "mp4", "libx264", pixel_format="yuv444p"), ends)
    yield Clip("alpha.mov", write(frames, "mov", "png", pixel_format="rgba"), ends)
    yield Clip("gray.mov", write(frames, "mov", "png", pixel_format="gray"), ends)
    yield Clip("16 bits.mov", write(frames, "mov", "png", pixel_format="rgb48be"), ends)
    yield Clip("lossless.mkv", write(frames, "mkv", "ffv1"), ends)
    yield Clip("odd.mkv", write(film(20, 33, 47), "mkv", "ffv1", pixel_format="yuv444p"), ends)
    yield Clip("narrow.mkv", write(film(20, 2, 640), "mkv", "ffv1"), ends)
    yield Clip("one line.mkv", write(film(20, 1, 1), "mkv", "ffv1", pixel_format="yuv444p"), ends)
    for codec in ("mjpeg", "libvpx", "mpeg1video"):
        pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        yield Clip(f"{codec}.mkv", write(frames, "mkv", codec, pixel_format=pixels), ends)
    for kind in ("mp4", "mkv"):
        yield Clip(f"{kind} and more.{kind}", whole(kind) + b"more" * 99, broken=True)


def sound() -> bytes:
    """A second of silence and no picture."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream: Any = file.add_stream("aac", rate=16000, layout="mono")
        for start in range(0, 16000, 1000):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return buffer.getvalue()
