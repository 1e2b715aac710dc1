"""From the bytes of an image file to a uint8 RGB tensor: completely, upright, or not at all.

JPEG goes through torchvision, unless it is reduced while it is decoded, which only Pillow's ``draft`` does.
Everything else goes through Pillow: torchvision's PNG decoder ends the whole process with a segmentation
fault on a damaged file (0.29, as in pytorch/vision#3613), and it decodes every frame of an animation.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from cf_lightning.data.picture import Box, Picture

# only what an image data set is made of: Pillow's other readers are slow, rare, or start programs (EPS)
FORMATS = ("PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
BAND = 2**22  # pixels that are converted at a time
TURNED = (5, 6, 7, 8)  # EXIF orientations that lie on their side


def open_image(encoded: bytes, max_pixels: int) -> Picture:
    """A JPEG, PNG, WebP, GIF (first frame), BMP, TIFF or PPM file.

    Grayscale is repeated, CMYK converted, transparency dropped, 16 bits scaled to 8, and the image
    turned upright by its EXIF orientation. Its pixels are channels last in memory: resizing is faster so.

    Args:
        encoded: the file's bytes.
        max_pixels: a larger image is refused by its header, before memory is taken for it.

    Raises:
        ValueError: here or when it is read: empty, truncated, damaged, too large, or not an image; the
            message says which.
    """
    if not encoded:
        raise ValueError("the file is empty")
    if not encoded.startswith(b"\xff\xd8"):
        return Picture.of(_decode_other(encoded, max_pixels))
    width, height, orientation = _jpeg_header(encoded)
    _check_pixels(width, height, max_pixels)
    size = (width, height) if orientation in TURNED else (height, width)
    return Picture(*size, partial(_read_jpeg, encoded, width, height, orientation))


def decode_image(encoded: bytes, max_pixels: int) -> Tensor:
    """All pixels of what ``open_image`` opens: (3, H, W) uint8 RGB."""
    return open_image(encoded, max_pixels).pixels()


def image_to_tensor(image: Image.Image) -> Tensor:
    """A Pillow image of any mode as (3, H, W) uint8 RGB.

    Raises:
        ValueError: 32 bits a channel, where no range of values is white.
    """
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    if image.mode in ("I", "F") and not deep:
        raise ValueError(f"32 bits a channel (mode {image.mode}); 8 or 16 are supported")
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    step = max(1, BAND // image.width)
    for top in range(0, image.height, step):
        band = image
        if step < image.height:  # converted whole, a large image would be in memory three times
            band = image.crop((0, top, image.width, min(top + step, image.height)))
        if deep:  # convert("RGB") would clip what is above 255
            band = Image.fromarray((np.asarray(band) >> 8).astype(np.uint8))
        pixels[top : top + step] = np.asarray(band.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _read_jpeg(encoded: bytes, width: int, height: int, orientation: int, box: Box, factor: float) -> Tensor:
    """A box of the upright image, at the smallest of libjpeg's scales that ``factor`` allows.

    Its edges are the nearest of the reduced image's pixels.
    """
    scale = next(scale for scale in (8, 4, 2, 1) if scale <= factor)
    if scale == 1:
        image = _decode_jpeg(encoded)
    else:
        with _one_kind_of_error(), Image.open(io.BytesIO(encoded), formats=("JPEG",)) as reduced:
            reduced.draft(None, (width // scale, height // scale))
            image = image_to_tensor(reduced)[:, : round(height / scale), : round(width / scale)]
    image = _upright(image, orientation)
    top, left = round(box.top / scale), round(box.left / scale)
    bottom, right = round((box.top + box.height) / scale), round((box.left + box.width) / scale)
    return image[:, top : max(bottom, top + 1), left : max(right, left + 1)]


def _decode_jpeg(encoded: bytes) -> Tensor:
    data = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
    try:
        return decode_jpeg(data, ImageReadMode.RGB)  # type: ignore[no-any-return]
    except RuntimeError as error:  # "decode_jpeg, FILE:LINE, Image is incomplete or truncated"
        raise ValueError(str(error).splitlines()[0].split(", ", 2)[-1]) from error


def _upright(image: Tensor, orientation: int) -> Tensor:
    """By the number that EXIF has for it (JEITA CP-3451, 4.6.4)."""
    if orientation in TURNED:
        image = image.transpose(1, 2)
    flipped = [axis for axis, of in ((1, (3, 4, 7, 8)), (2, (2, 3, 6, 7))) if orientation in of]
    return image.flip(flipped) if flipped else image


def _decode_other(encoded: bytes, max_pixels: int) -> Tensor:
    with _one_kind_of_error(), Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
        _check_pixels(image.width, image.height, max_pixels)
        ImageOps.exif_transpose(image, in_place=True)
        return image_to_tensor(image)


@contextmanager
def _one_kind_of_error() -> Iterator[None]:
    """Pillow's readers raise about any exception on a damaged file: make each a ValueError."""
    try:
        yield
    except (MemoryError, ValueError):
        raise
    except UnidentifiedImageError:
        raise ValueError(f"not a JPEG, {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from None
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ValueError(f"{width} x {height} = {width * height} pixels; at most {max_pixels} are decoded")


def _jpeg_header(encoded: bytes) -> tuple[int, int, int]:
    """Width, height, EXIF orientation by the segments (ITU T.81, B.2); Pillow takes ten times as long."""
    position, orientation = 2, 1
    while (position := encoded.find(b"\xff", position)) >= 0 and position + 9 <= len(encoded):
        marker = encoded[position + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # stuffing, fill bytes, no payload
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = encoded[position + 5 : position + 7], encoded[position + 7 : position + 9]
            return int.from_bytes(width), int.from_bytes(height), orientation
        end = position + 2 + int.from_bytes(encoded[position + 2 : position + 4])
        if marker == 0xE1 and encoded.startswith(b"Exif\0\0", position + 4):
            orientation = _orientation(encoded[position + 4 : end])
        position = end
    raise ValueError("the JPEG file has no frame header")


def _orientation(exif: bytes) -> int:
    """From an EXIF segment; 1, upright, where it says nothing that can be read."""
    segment = Image.Exif()
    try:
        segment.load(exif)
        return int(segment.get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow's reader raises about anything; what EXIF says is no part of the image
        return 1
