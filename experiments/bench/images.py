"""Images to measure with: generated, so that nothing is downloaded and nothing of the user's is read."""

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


def make_photos(root: Path, number: int, side: int) -> FolderImages:
    """``number`` JPEGs of 500 x 375 pixels as detailed as photos (1/f noise, 115 kB), at ``side``."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(375)[:, None], np.fft.rfftfreq(500)[None])
    frequency[0, 0] = np.inf
    for i in range(number):
        grey, colours = rng.normal(size=(1, 375, 500)), rng.normal(size=(3, 375, 500))
        waves = np.fft.rfft2(grey + 0.3 * colours) / frequency
        pixels = np.fft.irfft2(waves, (375, 500))
        pixels = 128 + 50 * pixels / pixels.std()
        file = root / str(i % 8) / f"{i:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)).save(file, quality=90)
    return FolderImages(root=str(root), view=View(resize=side * 8 // 7, crop=side), holdout=0.0)
