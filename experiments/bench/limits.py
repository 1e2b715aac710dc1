"""What the machine could do at best: matrix products, the decoder, the disk, and how much of it is used."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from images import make_images
from measuring import Bound, Row, in_turn, ratio, seconds
from throughput import Load, extraction

from cf_lightning.callbacks.row_writer import RowWriter
from cf_lightning.data.decoding import decode_image
from cf_lightning.data.images import ImageDataModule
from cf_lightning.features import FeatureExtractionModule
from cf_lightning.models.torchvision import TorchvisionTrunk
from cf_lightning.models.trunk import Trunk

SIDE, BATCH, DIM = 128, 32, 2048
LOAD = Load("cpu", BATCH, BATCH, 16)
NUMBER = LOAD.batches * BATCH
ROWS = 200_000  # 781 MiB of float16 features


def rows(folder: Path) -> Iterator[Row]:
    torch.set_num_threads(LOAD.runtime.num_threads())
    peaks = {dtype: peak(dtype) for dtype in (torch.float32, torch.bfloat16)}
    for dtype, flops in peaks.items():
        yield Row(
            f"Matrix products at best, {str(dtype).removeprefix('torch.')}", f"{flops / 1e9:.0f} GFLOP/s"
        )
    source = make_images(folder / "limits", NUMBER, file_side=160, side=SIDE)
    data = ImageDataModule(source, batch_size=BATCH, workers=LOAD.runtime.num_workers())
    recipe = TorchvisionTrunk(name="resnet50")
    trunk = recipe.build().channels_last().eval()
    whole, model, loader = in_turn(
        lambda: extraction(folder, LOAD, FeatureExtractionModule(trunk), data),
        lambda: forward(trunk),
        lambda: NUMBER / seconds(lambda: deque(data.predict_dataloader(), maxlen=0)),
    )
    least = [min(pair) for pair in zip(model, loader, strict=True)]
    both = [1 / (1 / a + 1 / b) for a, b in zip(model, loader, strict=True)]
    where = f"ResNet-50, {SIDE} px, cpu"
    yield ratio(
        f"Extraction / the slower of network and loader, each alone ({where})",
        whole,
        least,
        Bound(">=", 0.9),
        "images/s",
    )
    yield ratio(
        f"Extraction / both on the same cores, one after the other ({where})",
        whole,
        both,
        Bound(">=", 0.97),
        "images/s",
    )
    flops = recipe.operations((3, SIDE, SIDE))
    share = median(model) * flops / peaks[torch.bfloat16]
    yield Row(
        f"Forward pass / matrix products at best, bfloat16 ({where})",
        f"{share:.2f}",
        f"{flops / 1e9:.2f} GFLOP an image, {median(model):.0f} images/s",
    )
    yield decoding(source.root, data)
    yield writing(folder)


def peak(dtype: torch.dtype) -> float:
    """Operations a second of the best of some sizes."""
    found = []
    for size in (1024, 2048, 4096):
        a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        torch.mm(a, b)
        found.append(max(2 * size**3 / seconds(lambda: torch.mm(a, b)) for _ in range(5)))  # noqa: B023
    return max(found)


def forward(trunk: Trunk) -> float:
    """The network alone, the same batch again and again: images a second."""
    images = torch.randint(256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8)
    with torch.inference_mode(), LOAD.autocast():
        trunk(images)
        return NUMBER / seconds(lambda: [trunk(images) for _ in range(LOAD.batches)])


def decoding(root: str | None, data: ImageDataModule) -> Row:
    """The loader, which also resizes and makes batches, against the decoder alone, both in one process."""
    files = [file.read_bytes() for file in sorted(Path(root or "").rglob("*.jpg"))]
    loader, decoder = in_turn(
        lambda: NUMBER / seconds(lambda: deque(data.predict_dataloader(), maxlen=0)),
        lambda: NUMBER / seconds(lambda: [decode_image(file, 10**9) for file in files]),
    )
    share = [a / b for a, b in zip(loader, decoder, strict=True)]
    sides = f"{median(loader):.0f} against {median(decoder):.0f} images/s"
    return Row("Loader / decoder alone (160 px JPEGs to 128 px, one process)", f"{median(share):.2f}", sides)


def writing(folder: Path) -> Row:
    """Rows through ``RowWriter``, flushed to the disk, against one file of as many bytes."""
    features, batch = torch.randn(1024, DIM).half(), 1024
    block = features.numpy().tobytes()

    def flushed(path: Path, act: Callable[[], None]) -> float:
        taken = seconds(lambda: (act(), _flush(path)))
        path.unlink()
        return ROWS * DIM * 2 / taken / 1e6

    def by_rows() -> None:
        writer = RowWriter(folder / "rows.npy", (ROWS, DIM), np.float16)
        for start in range(0, ROWS, batch):
            index = torch.arange(start, min(start + batch, ROWS))
            writer.write(index, features[: len(index)])
        writer.finish()

    def plain() -> None:
        with open(folder / "plain", "wb") as file:
            for start in range(0, ROWS, batch):
                file.write(block[: min(batch, ROWS - start) * DIM * 2])

    ours, theirs = in_turn(
        lambda: flushed(folder / "rows.npy", by_rows), lambda: flushed(folder / "plain", plain), rounds=3
    )
    share = [a / b for a, b in zip(ours, theirs, strict=True)]
    sides = f"{median(ours):.0f} against {median(theirs):.0f} MB/s"
    return Row(f"Writing {ROWS} rows / one plain file, both flushed", f"{median(share):.2f}", sides)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
