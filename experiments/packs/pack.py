"""What every pack has in common: small JPEGs and CSV tables in an uncompressed zip.

The same input gives the same bytes on any day.
"""

import csv
import io
import os
import random
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image, ImageOps

Row = Mapping[str, str]
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment a zip can name: no clock enters a pack


def write_pack(path: Path, images: Iterable[tuple[str, bytes]], tables: Mapping[str, list[Row]]) -> None:
    """Write images (member name, encoded bytes) and tables (member name, rows), then name it ``path``."""
    if not all(tables.values()):
        raise SystemExit(f"{path}: not written, no image was found")
    partial = path.with_name(path.name + ".partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name, content in images:
            _add(archive, name, content)
        for name, rows in tables.items():
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            _add(archive, name, text.getvalue().encode())
    os.replace(partial, path)
    counts = ", ".join(f"{len(rows)} rows in {name}" for name, rows in tables.items())
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {counts}")


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, EPOCH)
    info.create_system = 3  # the same bytes on every system
    archive.writestr(info, content)


def shrink(file: Path, short_side: int, quality: int = 90) -> bytes:
    """An image as an upright RGB JPEG with this short side in pixels, never enlarged."""
    with Image.open(file) as picture:
        image = ImageOps.exif_transpose(picture).convert("RGB")
    scale = min(1.0, short_side / min(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    return encode(image.resize((width, height), Image.Resampling.LANCZOS), quality)


def encode(image: Image.Image, quality: int) -> bytes:
    """JPEG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def shuffled(items: Iterable[str], seed: str) -> list[str]:
    """The items in an order that depends on their set and the seed alone."""
    ordered = sorted(items)
    random.Random(seed).shuffle(ordered)
    return ordered
