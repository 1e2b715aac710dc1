"""What replicas of published data sets are made of, and what is asked of all of them."""

from pathlib import Path

import pytest
from PIL import Image

from cf_lightning.data.published import Published
from cf_lightning.errors import DataError


def text(path: Path, *lines: str, end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())


def image(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), (number * 20,) * 3).save(path, "JPEG")


def refused_line(source: Published, root: Path, name: str, line: str) -> str:
    """What is said of a line that is added to an annotation file; the file is named."""
    with open(root / name, "a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError) as caught:
        source.index()
    assert name in str(caught.value)
    return str(caught.value)
