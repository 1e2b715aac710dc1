"""Small video files that would fill the memory or never end, made in memory."""

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import av
from broken_clips import Clip, film, whole, write
from PIL import Image

SIDE = 10_000  # pixels
GRAY = 128


def bombs() -> Iterator[Clip]:
    """A hundred megapixels a frame, a hundred thousand frames, headers that claim more."""
    ends = (GRAY, GRAY)
    for count in (1, 2):
        yield Clip(f"{count} frames of {SIDE} x {SIDE}.mov", partial(repeated, "mov", SIDE, count), ends)
    for kind in ("mp4", "mkv", "avi"):
        yield Clip(f"100000 frames.{kind}", partial(repeated, kind, 16, 100_000), ends)
    yield Clip(
        "100000 frames and one key.mp4",
        partial(write, film(100_000, 16, 16), "mp4", "mpeg4", gop=100_000),
        (40, 220),
    )
    yield Clip("four days of nine frames.mp4", partial(repeated, "mp4", 16, 9, 25 * 40_000), ends)
    content = whole("mp4")
    stts, stsz = b"stts" + bytes(4), b"stsz" + bytes(4)
    for name, old, new in (
        ("65535 x 65535", struct.pack(">HH", 64, 48), struct.pack(">HH", 65535, 65535)),
        ("2 billion frames", stts + struct.pack(">II", 1, 20), stts + struct.pack(">II", 1, 2**31 - 1)),
        ("frames of 4 GB", stsz + bytes(4), stsz + b"\xff\xff\xff\xf0"),
        ("4 billion sizes", stsz + struct.pack(">II", 0, 20), stsz + b"\0\0\0\0\xff\xff\xff\xf0"),
    ):
        yield Clip(f"claims {name}.mp4", content.replace(old, new), broken=True)


def repeated(kind: str, side: int, count: int, step: int = 1) -> bytes:
    """The same frame again and again, ``step`` 25ths of a second apart, encoded once."""
    still, video = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (side, side), (GRAY, GRAY, GRAY)).save(still, "JPEG")
    with av.open(video, "w", format={"mkv": "matroska"}.get(kind, kind)) as file:
        stream: Any = file.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = side, side, "yuvj420p"
        file.start_encoding()
        for number in range(count):
            packet = av.Packet(still.getvalue())
            packet.stream, packet.pts, packet.dts = stream, number * step, number * step
            packet.time_base, packet.duration, packet.is_keyframe = Fraction(1, 25), step, True
            file.mux(packet)
    return video.getvalue()
