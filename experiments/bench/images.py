"""Images to measure with: generated, so that nothing is downloaded and nothing of the user's is read."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from cf_lightning.data.folder import FolderImages
from cf_lightning.data.views import View


def make_images(root: Path, number: int, file_side: int, side: int) -> FolderImages:
    """``number`` JPEGs of ``file_side`` pixels in eight class folders, all train, seen at ``side`` pixels."""
    rng = np.random.default_rng(0)
    for i in range(number):
        file = root / str(i % 8) / f"{i:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        blobs = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        blobs.resize((file_side, file_side), Image.Resampling.BICUBIC).save(file, quality=90)
    return FolderImages(root=str(root), view=View(resize=side, crop=side), holdout=0.0)


def add_links(root: Path, number: int) -> None:
    """Links to the images in ``root``, beside them, until there are ``number``; to make these takes long."""
    files = sorted(root.rglob("*.jpg"))
    for i in range(len(files), number):
        file = files[i % len(files)]
        os.link(file, file.with_name(f"{i:06d}.jpg"))


def make_photos(
    root: Path, number: int, side: int, size: tuple[int, int] = (375, 500), softness: float = 0.0
) -> FolderImages:
    """``number`` JPEGs as detailed as photos (1/f noise), of height and width ``size``, at ``side``.

    Those of 500 x 375 pixels have 115 kB each; of 3000 x 2000, with a softness of 4 as of a camera, 2 MB.
    """
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
    blur = np.exp(-((softness * frequency) ** 2))
    frequency[0, 0] = np.inf
    for i in range(number):
        grey, colours = rng.normal(size=(1, *size)), rng.normal(size=(3, *size))
        waves = np.fft.rfft2(grey + 0.3 * colours) / frequency * blur
        pixels = np.fft.irfft2(waves, size)
        pixels = 128 + 50 * pixels / pixels.std()
        file = root / str(i % 8) / f"{i:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)).save(file, quality=90)
    return FolderImages(root=str(root), view=View(resize=side * 8 // 7, crop=side), holdout=0.0)
