"""JPEGs that are decoded at a smaller scale: seen as if they had been decoded whole."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from pydantic import ValidationError
from torch import Tensor

from cf_lightning.data.clip_view import ClipView
from cf_lightning.data.decoding import decode_image, open_image
from cf_lightning.data.image_source import ImageSource
from cf_lightning.data.picture import Box, Picture
from cf_lightning.data.views import Augmentation, View

MAX_PIXELS = ImageSource.MAX_PIXELS
HEIGHT, WIDTH = 304, 408


def photo(height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    """1/f noise as in photos, as soft as large ones are; no side is like another."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    waves = np.fft.rfft2(rng.normal(size=(3, height, width))) / frequency * np.exp(-((4 * frequency) ** 2))
    pixels = np.fft.irfft2(waves, (height, width))
    pixels = 128 + 50 * pixels / pixels.std()
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def encode(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def difference(left: Tensor, right: Tensor) -> Tensor:
    assert left.shape == right.shape
    return (left.int() - right.int()).abs().float()


def seen(encoded: bytes, gap: float | None, side: int = 60) -> Tensor:
    view = View(resize=side, crop=side, reducing_gap=gap).build()
    shown: Tensor = view(open_image(encoded, MAX_PIXELS))
    return shown


def scale(encoded: bytes, factor: float) -> float:
    """By how much a side of the whole is smaller when it may be ``factor`` times as small."""
    picture = open_image(encoded, MAX_PIXELS)
    return picture.height / picture._read(picture.box, factor).shape[1]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_it_looks_the_same(mode: str, progressive: bool) -> None:
    encoded = encode(photo().convert(mode), progressive=progressive)
    change = difference(seen(encoded, 2.0), seen(encoded, None))
    assert 0 < change.mean() < 1
    assert change.max() <= 6
    closer = difference(seen(encoded, 2.0, side=30), seen(encoded, None, side=30))
    assert closer.mean() < difference(seen(encoded, 1.0, side=30), seen(encoded, None, side=30)).mean() / 2


def test_it_is_reduced_as_far_as_the_gap_allows() -> None:
    encoded = encode(photo())
    for factor, wanted in ((1.0, 1), (1.99, 1), (2.0, 2), (3.9, 2), (4.0, 4), (7.9, 4), (8.0, 8), (40.0, 8)):
        assert scale(encoded, factor) == pytest.approx(wanted, rel=0.02)
    assert torch.equal(seen(encoded, 2.0, side=100), seen(encoded, None, side=100)), "304 / 100 is below 4"


@pytest.mark.parametrize(("size", "tolerance"), [((304, 408), 5), ((301, 403), 15)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_is_upright_at_each_scale(
    orientation: int, size: tuple[int, int], tolerance: float
) -> None:
    """Where the scale divides no side, it may begin half a pixel later; another side would be 50 off."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = encode(photo(*size), exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB")
    whole = torch.from_numpy(np.array(upright)).permute(2, 0, 1)
    assert difference(decode_image(encoded, MAX_PIXELS), whole).mean() < 0.5
    picture = open_image(encoded, MAX_PIXELS)
    assert (picture.height, picture.width) == tuple(whole.shape[1:])
    box = Box(40, 80, 160, 120)
    for factor in (2, 4):
        reduced = picture._read(box, factor)
        assert tuple(reduced.shape[1:]) == (box.height // factor, box.width // factor)
        part = upright.crop((80, 40, 200, 200)).reduce(factor)
        assert difference(reduced, torch.from_numpy(np.array(part)).permute(2, 0, 1)).mean() < tolerance


def test_unreadable_exif_is_no_orientation() -> None:
    assert scale(encode(photo(), exif=b"Exif\0\0nothing that Pillow can read"), 1.0) == 1


def test_a_truncated_file_is_refused_at_each_scale() -> None:
    encoded = encode(photo())
    for share in (0.3, 0.6, 0.9, 0.99):
        picture = open_image(encoded[: int(share * len(encoded))], MAX_PIXELS)
        for factor in (1.0, 2.0, 8.0):
            with pytest.raises(ValueError, match="truncated"):
                picture._read(picture.box, factor)


def test_too_many_pixels_are_refused_by_the_header() -> None:
    with pytest.raises(ValueError, match="408 x 304 = 124032 pixels; at most 124031"):
        open_image(encode(photo()), HEIGHT * WIDTH - 1)


def test_a_random_crop_is_drawn_before_anything_is_decoded() -> None:
    encoded = encode(photo())
    asked: list[tuple[Box, float]] = []

    def read(box: Box, factor: float) -> Tensor:
        asked.append((box, factor))
        return open_image(encoded, MAX_PIXELS)._read(box, factor)

    pixels = decode_image(encoded, MAX_PIXELS)
    crop, whole = (
        Augmentation(min_area=0.1).build(View(resize=20, crop=20, reducing_gap=gap)) for gap in (2.0, None)
    )
    reduced = 0
    for seed in range(60):
        torch.manual_seed(seed)
        shown = crop(Picture(HEIGHT, WIDTH, read))
        box, factor = asked.pop()
        assert not asked, "once"
        assert factor == max(1.0, min(box.height, box.width) / 40)
        torch.manual_seed(seed)
        of_pixels = whole(pixels)  # torchvision's own draws, of the same crop
        change = difference(shown, of_pixels)
        reduced += bool(change.any())
        assert change.mean() < 12, "at most half a pixel off the whole, where each is unlike the next"
    assert reduced > 40


def test_videos_are_not_reduced() -> None:
    with pytest.raises(ValidationError, match="reducing_gap"):
        ClipView(reducing_gap=2.0)  # type: ignore[arg-type]
    assert ClipView().reducing_gap is None
