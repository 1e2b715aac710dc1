"""Small image files that would fill the memory or never end, made in memory."""

import struct
import zlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from broken_images import RGB, Picture, chunk, encode, orientation, png, whole
from PIL import Image

SIDE = 10_000  # pixels


def bombs() -> Iterator[Picture]:
    """A hundred megapixels in a small file, headers that claim more, and a hundred thousand frames."""
    size = f"{SIDE} x {SIDE}"
    for name, samples, depth, colour in (
        ("gray", 1, 8, 0),
        ("colour", 3, 8, 2),
        ("alpha", 4, 8, 6),
        ("16 bits", 2, 16, 0),
        ("16 bits in colour", 6, 16, 2),
    ):
        yield Picture(f"{size} {name}.png", partial(blank_png, samples, depth, colour), black())
    for name, options in {
        "": {},
        " progressive": {"progressive": True},
        " turned": {"exif": orientation(6)},
    }.items():
        yield Picture(f"{size}{name}.jpg", partial(blank, "RGB", "JPEG", **options), black(), 1)
    yield Picture(f"{size} cmyk.jpg", partial(blank, "CMYK", "JPEG"), broken=True)
    yield Picture(f"{size}.gif", partial(blank, "P", "GIF"), black())
    for mode in ("L", "RGB", "RGBA", "CMYK"):
        pixels = None if mode == "CMYK" else black()
        yield Picture(f"{size} {mode}.tif", partial(blank, mode, "TIFF", compression="tiff_lzw"), pixels)
    yield from claims()
    yield Picture("100000 frames.gif", partial(many_frames, 100_000), np.zeros((48, 32, 3), np.uint8))
    yield Picture("100000 frames.png", partial(many_frame_png, 100_000), RGB)
    yield Picture("100000 pages.tif", partial(many_pages, 100_000), np.zeros((1, 1, 3), np.uint8))
    yield Picture("a page that follows itself.tif", many_pages(1, loop=True), np.zeros((1, 1, 3), np.uint8))


def blank(mode: str, kind: str, **options: Any) -> bytes:
    return encode(Image.new(mode, (SIDE, SIDE)), kind, **options)


def blank_png(samples: int, depth: int, colour: int) -> bytes:
    return png(bytes(samples * SIDE * SIDE), SIDE, SIDE, depth, colour)


def black() -> np.ndarray:
    return np.broadcast_to(np.uint8(0), (SIDE, SIDE, 3))


def claims() -> Iterator[Picture]:
    """Small files that say they are large."""
    for kind, (content, ending, _, _) in whole().items():
        for width, height in ((60_000, 50_000), (13_000, 7_000)):
            changed = claim(kind, content, width, height)
            if changed:
                yield Picture(f"{kind} claims {width} x {height}.{ending}", changed, broken=True)


def claim(kind: str, content: bytes, width: int, height: int) -> bytes | None:
    """The same file with another size in its header."""
    changed = bytearray(content)
    if kind == "png":
        changed[16:24] = struct.pack(">II", width, height)
        changed[29:33] = struct.pack(">I", zlib.crc32(changed[12:29]))
    elif kind in ("jpeg", "progressive"):
        frame = content.index(b"\xff\xc0" if kind == "jpeg" else b"\xff\xc2")
        changed[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    elif kind == "gif":
        changed[6:10] = struct.pack("<HH", width, height)
    elif kind == "bmp":
        changed[18:26] = struct.pack("<ii", width, height)
    elif kind == "ppm":
        return content.replace(b"32 48", f"{width} {height}".encode(), 1)
    elif kind == "tiff":
        return content.replace(tag(256, 32), tag(256, width)).replace(tag(257, 48), tag(257, height))
    else:
        return None
    return bytes(changed)


def tag(number: int, value: int) -> bytes:
    """Of a TIFF directory, in the kind of number that Pillow writes."""
    return struct.pack("<HHII", number, 4, 1, value)


def many_frames(count: int) -> bytes:
    """A GIF whose one frame comes again and again."""
    once = encode(Image.new("P", (32, 48)), "GIF")
    begin = 13 + (3 << (once[10] & 7) + 1 if once[10] & 128 else 0)  # behind the header and its palette
    return once[:begin] + once[begin:-1] * count + once[-1:]


def many_frame_png(count: int) -> bytes:
    """An APNG; the frames behind the first are empty."""
    still = encode(RGB, "PNG")
    end = still.index(b"IDAT") - 4
    control = struct.pack(">IIIIIHHBB", 0, 32, 48, 0, 0, 1, 10, 0, 0)
    frames = b"".join(
        chunk(b"fcTL", struct.pack(">IIIIIHHBB", 2 * n + 1, 1, 1, 0, 0, 1, 10, 0, 0))
        + chunk(b"fdAT", struct.pack(">I", 2 * n + 2) + zlib.compress(b"\0\0\0\0"))
        for n in range(count - 1)
    )
    counted = chunk(b"acTL", struct.pack(">II", count, 0)) + chunk(b"fcTL", control)
    return still[:end] + counted + still[end:-12] + frames + still[-12:]


def many_pages(count: int, loop: bool = False) -> bytes:
    """A TIFF of black pages of one pixel; the last may be followed by the first."""
    size = 2 + 9 * 12 + 4
    pages = []
    for number in range(count):
        tags = ((256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 1))
        entries = b"".join(struct.pack("<HHII", name, 4, 1, value) for name, value in tags)
        following = 12 + (number + 1) * size if number + 1 < count else 12 * loop
        pages.append(struct.pack("<H", len(tags)) + entries + struct.pack("<I", following))
    return b"II*\0" + struct.pack("<I", 12) + bytes(4) + b"".join(pages)
