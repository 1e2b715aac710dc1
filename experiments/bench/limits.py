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
from throughput import Clock, Load, extraction, folded

from cf_lightning.callbacks.row_writer import RowWriter
from cf_lightning.data.decoding import decode_image
from cf_lightning.data.folder import FolderImages
from cf_lightning.data.images import ImageDataModule
from cf_lightning.data.views import View
from cf_lightning.features import FeatureExtractionModule
from cf_lightning.models.torchvision import TorchvisionTrunk
from cf_lightning.precision import resolve_precision

SIDE, DIM = 128, 2048
LOADS = (Load("cpu", 32, 32, 16), Load("cuda", 256, 256, 40))
SIZES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192, 16384)}  # of square matrices
DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, "32-true": torch.float32}
ROUNDS, ROWS = 3, 200_000  # 781 MiB of float16 features


def rows(folder: Path) -> Iterator[Row]:
    for load in LOADS:
        if load.device == "cuda" and not torch.cuda.is_available():
            yield Row("Matrix products and extraction on a GPU")
        else:
            yield from Limits(folder / load.device, load).rows()
    images = folder / "cpu" / "images"
    yield decoding(images, LOADS[0])
    yield writing(folder)


class Limits:
    """A ResNet-50's extraction, its parts alone, and what the processors can do."""

    def __init__(self, folder: Path, load: Load) -> None:
        self.folder, self.load, self.number = folder, load, load.extract_batch * load.batches
        source = make_images(folder / "images", self.number, file_side=160, side=SIDE)
        self.data = ImageDataModule(source, batch_size=load.extract_batch, workers=load.runtime.num_workers())
        self.recipe = TorchvisionTrunk(name="resnet50")
        self.trunk = folded().channels_last()

    def rows(self) -> Iterator[Row]:
        torch.set_num_threads(self.load.runtime.num_threads())
        device, where = self.load.device, f"ResNet-50, {SIDE} px, {self.load.device}"
        lean = DTYPES[resolve_precision("auto", device)]
        peaks = {dtype: [peak(dtype, device) for _ in range(ROUNDS)] for dtype in (torch.float32, lean)}
        for dtype, found in peaks.items():
            what = f"Matrix products at best, {_name(dtype)} ({device})"
            yield Row(what, found, unit="GFLOP/s", digits=0)
        whole, model, loader = in_turn(self.extraction, self.forward, self.loading, rounds=ROUNDS)
        least = [min(pair) for pair in zip(model, loader, strict=True)]
        what = f"Extraction / the slower of network and loader, each alone ({where})"
        yield ratio(what, whole, least, Bound(">=", 0.9), "images/s")
        if device == "cpu":
            both = [1 / (1 / a + 1 / b) for a, b in zip(model, loader, strict=True)]
            what = f"Extraction / both on the same cores, one after the other ({where})"
            yield ratio(what, whole, both, Bound(">=", 0.97), "images/s")
        operations = self.recipe.operations((3, SIDE, SIDE)) / 1e9
        what = f"Forward pass / matrix products at best, {_name(lean)} ({where})"
        used, note = [rate * operations for rate in model], f"{operations:.2f} GFLOP an image"
        yield ratio(what, used, [median(peaks[lean])] * len(used), None, "GFLOP/s", note)

    def extraction(self) -> float:
        return extraction(self.folder, self.load, FeatureExtractionModule(self.trunk), self.data)

    def forward(self) -> float:
        """The network alone, the same batch again and again: images a second."""
        load, trunk = self.load, self.trunk.to(self.load.device)
        images = torch.randint(
            256, (load.extract_batch, 3, SIDE, SIDE), dtype=torch.uint8, device=load.device
        )

        def repeat() -> None:
            for _ in range(load.batches):
                trunk(images)
            wait(load.device)

        with torch.inference_mode(), load.autocast():
            trunk(images)
            wait(load.device)
            return self.number / seconds(repeat)

    def loading(self) -> float:
        """The loader alone, from its second batch on."""
        clock = Clock(self.load.device)
        for _ in self.data.predict_dataloader():
            clock.first()
        clock.tick()
        return clock.rate(self.number - self.load.extract_batch)


def peak(dtype: torch.dtype, device: str) -> float:
    """Billions of operations a second of the best of some sizes."""
    found = []
    for size in SIZES[device]:
        a, b = torch.randn(2, size, size, device=device).to(dtype)
        torch.mm(a, b)
        wait(device)
        taken = min(seconds(lambda: (torch.mm(a, b), wait(device))) for _ in range(5))  # noqa: B023
        found.append(2 * size**3 / taken)
    return max(found) / 1e9


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def decoding(root: Path, load: Load) -> Row:
    """The loader, which also resizes and makes batches, against the decoder alone, both in one process."""
    files = [file.read_bytes() for file in sorted(root.rglob("*.jpg"))]
    source = FolderImages(root=str(root), view=View(resize=SIDE, crop=SIDE), holdout=0.0)
    data = ImageDataModule(source, batch_size=load.extract_batch)
    loader, decoder = in_turn(
        lambda: len(files) / seconds(lambda: deque(data.predict_dataloader(), maxlen=0)),
        lambda: len(files) / seconds(lambda: [decode_image(file, 10**9) for file in files]),
    )
    what = f"Loader / decoder alone (160 px JPEGs to {SIDE} px, one process)"
    return ratio(what, loader, decoder, None, "images/s")


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
        lambda: flushed(folder / "rows.npy", by_rows), lambda: flushed(folder / "plain", plain), rounds=ROUNDS
    )
    return ratio(f"Writing {ROWS} rows / one plain file, both flushed", ours, theirs, None, "MB/s")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
