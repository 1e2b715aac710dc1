"""Images as they come from the world, made in memory: damaged, mislabelled, unusual, and made to do harm."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

RNG = np.random.default_rng(0)
RGB = np.kron(RNG.integers(0, 256, (6, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)  # 48 x 32
GRAY = np.repeat(RGB[..., :1], 3, axis=2)


@dataclass(frozen=True)
class Picture:
    """A file and what it has to become.

    Attributes:
        name: of the file, with the ending that it claims.
        content: its bytes, or what makes them, where that takes a while.
        pixels: (H, W, 3) uint8 that it shows; ``None`` where nobody can say.
        tolerance: of each value; lossy coding changes some.
        broken: it may be refused.
    """

    name: str
    content: bytes | Callable[[], bytes]
    pixels: np.ndarray | None = None
    tolerance: int = 0
    broken: bool = False


def encode(pixels: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def whole() -> dict[str, tuple[bytes, str, np.ndarray, int]]:
    """An intact file of each kind: content, ending, pixels, tolerance."""
    palette = Image.fromarray(RGB).quantize(16)
    drawn = np.asarray(palette.convert("RGB"))
    return {
        "jpeg": (encode(RGB, "JPEG", quality=100, subsampling=0), "jpg", RGB, 6),
        "progressive": (encode(RGB, "JPEG", quality=100, subsampling=0, progressive=True), "jpg", RGB, 6),
        "png": (encode(RGB, "PNG"), "png", RGB, 0),
        "webp": (encode(GRAY, "WEBP", quality=100), "webp", GRAY, 60),
        "lossless webp": (encode(RGB, "WEBP", lossless=True), "webp", RGB, 0),
        "gif": (encode(palette, "GIF"), "gif", drawn, 0),
        "bmp": (encode(RGB, "BMP"), "bmp", RGB, 0),
        "tiff": (encode(RGB, "TIFF"), "tif", RGB, 0),
        "lzw tiff": (encode(RGB, "TIFF", compression="tiff_lzw"), "tiff", RGB, 0),
        "ppm": (encode(RGB, "PPM"), "ppm", RGB, 0),
    }


def pictures() -> Iterator[Picture]:
    """All of them but bombs and odd names, in an order that does not change."""
    yield from truncated()
    yield from flipped()
    yield from mislabelled()
    yield from unusual()
    yield from turned()
    yield from loaded()


def truncated() -> Iterator[Picture]:
    """The first tenths of each kind; what is accepted of one shows all of it."""
    for kind, (content, ending, pixels, tolerance) in whole().items():
        for tenth in range(10):
            part = content[: len(content) * tenth // 10]
            yield Picture(f"{kind} cut at {tenth}0%.{ending}", part, pixels, tolerance, broken=True)


def flipped() -> Iterator[Picture]:
    """Each kind with some wrong bits: nobody can say what it shows, if anything."""
    for kind, (content, ending, _, _) in whole().items():
        for seed in range(12):
            rng, damaged = np.random.default_rng([seed, len(content)]), bytearray(content)
            for place in rng.integers(4, len(content), 1 + seed):
                damaged[place] ^= 1 << int(rng.integers(8))
            yield Picture(f"{kind} flipped {seed}.{ending}", bytes(damaged), broken=True)


def mislabelled() -> Iterator[Picture]:
    """The content decides, whatever the ending says; what is no image is refused."""
    kinds = list(whole().items())
    for (kind, (content, _, pixels, tolerance)), (_, (_, ending, _, _)) in zip(
        kinds, kinds[3:] + kinds[:3], strict=True
    ):
        yield Picture(f"a {kind}.{ending}", content, pixels, tolerance)
    noise = np.random.default_rng(1).bytes(4096)
    for name, content in {
        "page.jpg": b"<html>404 Not Found</html>\n" * 9,
        "text.png": b"no image\n",
        "vector.png": b"<svg xmlns='http://www.w3.org/2000/svg'><rect width='9' height='9'/></svg>",
        "postscript.tif": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n/x {x} def x\n",
        "archive.gif": b"PK\x03\x04" + bytes(60),
        "noise.bmp": noise,
        "noise.jpg": b"\xff\xd8\xff" + noise,
        "zeros.webp": bytes(4096),
        "newline.ppm": b"\n",
        "nothing.jpg": b"",
        "half a signature.png": b"\x89PN",
        "only a signature.jpg": b"\xff\xd8",
    }.items():
        yield Picture(name, content, broken=True)


def unusual() -> Iterator[Picture]:
    """Right, if rare: each has to show what is in it."""
    alpha = np.dstack([RGB, np.arange(48 * 32, dtype=np.uint8).reshape(48, 32)])
    palette = Image.fromarray(RGB).quantize(16)
    drawn = np.asarray(palette.convert("RGB"))
    one = GRAY[..., 0]
    deep = one.astype(np.uint16) * 257
    black_and_white = np.where(GRAY > 128, 255, 0).astype(np.uint8)
    cmyk = Image.fromarray(RGB).convert("CMYK")
    other = Image.new("P", (32, 48))
    yield Picture("gray.jpg", encode(one, "JPEG", quality=100), GRAY, 3)
    yield Picture("gray.png", encode(one, "PNG"), GRAY)
    yield Picture("gray.pgm", encode(one, "PPM"), GRAY)
    yield Picture("gray with alpha.png", encode(np.dstack([one, 255 - one]), "PNG"), GRAY)
    yield Picture("two colours.png", encode(Image.fromarray(one > 128), "PNG"), black_and_white)
    yield Picture(
        "two colours.tif", encode(Image.fromarray(one > 128), "TIFF", compression="group4"), black_and_white
    )
    yield Picture("alpha.png", encode(alpha, "PNG"), RGB)
    yield Picture("alpha.webp", encode(alpha, "WEBP", lossless=True, exact=True), RGB)
    yield Picture("alpha.tif", encode(alpha, "TIFF"), RGB)
    yield Picture("palette.png", encode(palette, "PNG", transparency=0), drawn)
    yield Picture("palette.tif", encode(palette, "TIFF"), drawn)
    yield Picture("palette.bmp", encode(palette, "BMP"), drawn)
    yield Picture("transparent.gif", encode(palette, "GIF", transparency=3), drawn)
    yield Picture("interlaced.gif", encode(palette, "GIF", interlace=1), drawn)
    yield Picture("animated.gif", encode(palette, "GIF", save_all=True, append_images=[other] * 20), drawn)
    frames = [Image.new("RGB", (32, 48), (number, 0, 0)) for number in range(20)]
    still = Image.fromarray(RGB)
    yield Picture("animated.png", encode(still, "PNG", save_all=True, append_images=frames), RGB)
    moving = encode(still, "WEBP", save_all=True, append_images=frames, lossless=True)
    yield Picture("animated.webp", moving, RGB)
    yield Picture("pages.tif", encode(still, "TIFF", save_all=True, append_images=frames), RGB)
    yield Picture("cmyk.jpg", encode(cmyk, "JPEG", quality=100), RGB, 6)
    yield Picture("cmyk.tif", encode(cmyk, "TIFF"), RGB, 2)
    yield Picture("16 bits.png", encode(deep, "PNG"), GRAY)
    yield Picture("16 bits.tif", encode(deep, "TIFF"), GRAY)
    yield Picture("16 bits in colour.png", png(np.repeat(RGB, 2, axis=2).tobytes(), 32, 48, 16, 2), RGB)
    yield Picture("16 bits.ppm", b"P6 32 48 65535\n" + np.repeat(RGB, 2, axis=2).tobytes(), RGB)
    yield Picture("16 bits.pgm", b"P5 32 48 65535\n" + np.repeat(one, 2, axis=1).tobytes(), GRAY)
    text = f"P3 32 48 255\n{' '.join(map(str, RGB.ravel()))}\n"
    yield Picture("in words.ppm", text.encode(), RGB)
    for compression in ("packbits", "tiff_deflate", "tiff_adobe_deflate"):
        yield Picture(f"{compression}.tif", encode(RGB, "TIFF", compression=compression), RGB)
    yield Picture("jpeg.tif", encode(GRAY, "TIFF", compression="jpeg", quality=100), GRAY, 8)
    yield Picture("floats.tif", encode(one.astype(np.float32), "TIFF"), broken=True)
    yield Picture("32 bits.tif", encode(one.astype(np.int32), "TIFF"), broken=True)
    yield Picture("one pixel.png", encode(RGB[:1, :1], "PNG"), RGB[:1, :1])
    yield Picture("one pixel.jpg", encode(GRAY[:1, :1], "JPEG", quality=100), GRAY[:1, :1], 3)
    line = np.zeros((1, 60_000, 3), np.uint8)
    yield Picture("one line.png", encode(line, "PNG"), line)
    yield Picture("one column.jpg", encode(line.swapaxes(0, 1), "JPEG"), line.swapaxes(0, 1), 3)
    for kind, (content, ending, pixels, tolerance) in whole().items():
        yield Picture(f"{kind} and more.{ending}", content + b"\0more" * 99, pixels, tolerance)


def turned() -> Iterator[Picture]:
    """Stored lying, mirrored or upside down, with EXIF's note how to turn it."""
    stored = {
        1: GRAY,
        2: GRAY[:, ::-1],
        3: GRAY[::-1, ::-1],
        4: GRAY[::-1],
        5: GRAY.swapaxes(0, 1),
        6: np.rot90(GRAY),
        7: GRAY[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(GRAY, -1),
    }
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind, ending, tolerance in (
            ("JPEG", "jpg", 3),
            ("PNG", "png", 0),
            ("WEBP", "webp", 60),
            ("TIFF", "tif", 0),
        ):
            options = {"quality": 100} if kind == "JPEG" else {}
            content = encode(np.ascontiguousarray(pixels), kind, exif=exif, **options)
            yield Picture(f"turned {orientation}.{ending}", content, GRAY, tolerance)


def loaded() -> Iterator[Picture]:
    """With much beside the picture, which is no part of it."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    large = profile + bytes(3_000_000)
    yield Picture("profile.jpg", encode(GRAY, "JPEG", quality=100, icc_profile=profile), GRAY, 3)
    yield Picture("profile.png", encode(RGB, "PNG", icc_profile=profile), RGB)
    yield Picture("profile.tif", encode(RGB, "TIFF", icc_profile=profile), RGB)
    yield Picture("large profile.jpg", encode(GRAY, "JPEG", quality=100, icc_profile=large), GRAY, 3)
    yield Picture("large profile.png", encode(RGB, "PNG", icc_profile=large), RGB, broken=True)
    yield Picture("large profile.tif", encode(RGB, "TIFF", icc_profile=large), RGB)
    yield Picture("no profile.png", encode(RGB, "PNG", icc_profile=b"nonsense"), RGB)
    exif = Image.Exif()
    exif[0x010E] = "x" * 60_000  # a description
    yield Picture("large exif.jpg", encode(GRAY, "JPEG", quality=100, exif=exif), GRAY, 3)
    yield Picture("large exif.png", encode(RGB, "PNG", exif=exif), RGB)
    nonsense = b"Exif\0\0II*\0" + b"\xff" * 200
    yield Picture("no exif.jpg", encode(GRAY, "JPEG", quality=100, exif=nonsense), GRAY, 3)
    yield Picture("no orientation.jpg", encode(GRAY, "JPEG", quality=100, exif=orientation(99)), GRAY, 3)
    yield Picture("no orientation.png", encode(RGB, "PNG", exif=orientation(99)), RGB)
    for size in (100_000, 2_000_000, 200_000_000):  # Pillow reads up to a megabyte of a text
        info = PngInfo()
        info.add_text("comment", "x" * size, zip=True)
        yield Picture(f"{size} letters.png", encode(RGB, "PNG", pnginfo=info), RGB, broken=size > 100_000)
    comments = b"".join(b"\xff\xfe\xff\xff" + bytes(65_533) for _ in range(99))
    jpeg = encode(GRAY, "JPEG", quality=100)
    yield Picture("comments.jpg", jpeg[:2] + comments + jpeg[2:], GRAY, 3)
    yield Picture("fill bytes.jpg", jpeg[:2] + b"\xff" * 100_000 + jpeg[2:], GRAY, 3)


def orientation(number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif.tobytes()


def png(lines: bytes, width: int, height: int, depth: int, colour: int) -> bytes:
    """A PNG of any kind, which Pillow cannot write all of: ``lines`` are its pixels one after the other."""
    deflate, step = zlib.compressobj(1), len(lines) // height
    parts = [deflate.compress(b"\0" + lines[i : i + step]) for i in range(0, len(lines), step)]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = b"".join([*parts, deflate.flush()])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def chunk(name: bytes, content: bytes) -> bytes:
    checked = name + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))
