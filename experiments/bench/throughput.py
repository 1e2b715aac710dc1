"""ResNet-50 through the framework and by hand: images per second, and what bf16 does to the features."""

import copy
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from images import make_images
from lightning.pytorch import Callback
from measuring import Bound, Row, in_turn, ratio

from cf_lightning.callbacks.row_writer import RowWriter
from cf_lightning.data.images import ImageDataModule
from cf_lightning.features import FeatureExtractionModule
from cf_lightning.models.compiling import compile_network
from cf_lightning.models.folding import fold_batch_norm
from cf_lightning.models.torchvision import TorchvisionTrunk
from cf_lightning.models.trunk import Trunk
from cf_lightning.precision import resolve_precision
from cf_lightning.runtime import Runtime
from cf_lightning.trainer import build_trainer

DIM, CLASSES = 2048, 1000


@dataclass(frozen=True)
class Load:
    """How much is measured, and where."""

    device: Literal["cpu", "cuda"]
    extract_batch: int
    train_batch: int
    batches: int

    @property
    def runtime(self) -> Runtime:
        return Runtime(devices=1, accelerator=self.device, progress=False)

    def autocast(self) -> AbstractContextManager[Any]:
        """What ``precision=auto`` means here."""
        precision = resolve_precision("auto", self.device)
        dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
        return torch.autocast(self.device, dtype, enabled=precision != "32-true")


LOADS = (Load("cpu", 32, 64, 12), Load("cuda", 256, 256, 40))


def rows(folder: Path) -> Iterator[Row]:
    for load in LOADS:
        if load.device == "cuda" and not torch.cuda.is_available():
            yield Row("Extraction on a GPU")
        else:
            yield from Extraction(folder / load.device / "extract", load).rows()


class Clock(Callback):
    """Images per second after the first batch: what comes before it is set-up and warm-up."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.times: list[float] = []

    def tick(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())

    def first(self) -> None:
        if not self.times:
            self.tick()

    def on_predict_batch_end(self, *_: Any, **__: Any) -> None:
        self.first()

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.first()

    def on_train_epoch_end(self, *_: Any, **__: Any) -> None:
        self.tick()

    def rate(self, images: int) -> float:
        return images / (self.times[-1] - self.times[0])


def extraction(folder: Path, load: Load, module: FeatureExtractionModule, data: ImageDataModule) -> float:
    """Images a second of the loop that the stage runs, rows on disk included."""
    clock = Clock(load.device)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        writer = RowWriter(Path(out) / "features.npy", (len(data.index), DIM), "float16")
        trainer = build_trainer(load.runtime, Path(out), "auto", [writer, clock])
        trainer.predict(module, data, return_predictions=False)
        writer.finish()
        clock.tick()
    return clock.rate(len(data.index) - load.extract_batch)


def folded() -> Trunk:
    """A ResNet-50 as the extraction stage has it: batch norm within the convolutions."""
    trunk = TorchvisionTrunk(name="resnet50").build().eval()
    fold_batch_norm(trunk.network)
    return trunk


class Extraction:
    """One ResNet-50 over the same images at 128 px, in four ways."""

    def __init__(self, folder: Path, load: Load) -> None:
        self.folder, self.load, self.batch = folder, load, load.extract_batch
        self.number = self.batch * load.batches
        source = make_images(folder / "images", self.number, file_side=160, side=128)
        self.data = ImageDataModule(source, batch_size=self.batch, workers=load.runtime.num_workers())
        torch.manual_seed(0)
        self.plain_network = TorchvisionTrunk(name="resnet50").build().network.eval()
        torch.manual_seed(0)
        self.trunk = folded()
        self.module = FeatureExtractionModule(self.trunk)
        self.compiled_module = copy.deepcopy(self.module)
        compile_network(self.compiled_module.trunk.network)

    def rows(self) -> Iterator[Row]:
        sides = (self.framework, self.by_hand, self.plain, self.compiled)
        ours, by_hand, plain, compiled = in_turn(*sides, rounds=3)
        where = f"ResNet-50, 128 px, {self.load.device}"
        same = f"Extraction / by hand, same precision ({where})"
        yield ratio(same, ours, by_hand, Bound(">=", 0.95), "images/s")
        faster = f"Extraction with compile=true / without ({where})"
        yield ratio(faster, compiled, ours, None, "images/s", "the compilation, once, not counted")
        lean = f"Extraction / by hand, fp32 NCHW ({where})"
        if resolve_precision("auto", self.load.device) == "32-true":
            yield Row(lean, note="no bf16 here")
        else:
            yield ratio(lean, ours, plain, Bound(">=", 2), "images/s")
            yield self._similarity(f"Cosine of these features ({where})")

    def _similarity(self, what: str) -> Row:
        """Of an untrained network, whose features are alike: so also without what they share."""
        lean, plain = (np.load(self.folder / f"{name}.npy").astype(float) for name in ("framework", "plain"))
        same, other = _cosine(lean, plain), _cosine(plain, np.roll(plain, 1, axis=0))
        centred = _cosine(lean - plain.mean(0), plain - plain.mean(0))
        without_mean = f"without the mean feature {centred.mean():.4f} (least {centred.min():.4f})"
        note = f"the least of {len(same)}; of different images {other.mean():.4f}; {without_mean}"
        return Row(what, [same.min()], Bound(">=", 0.9995), note=note, digits=5)

    def framework(self) -> float:
        clock = Clock(self.load.device)
        with tempfile.TemporaryDirectory(dir=self.folder) as out:
            writer = RowWriter(Path(out) / "features.npy", (self.number, DIM), "float16")
            trainer = build_trainer(self.load.runtime, Path(out), "auto", [writer, clock])
            trainer.predict(self.module, self.data, return_predictions=False)
            writer.finish()
            clock.tick()
            self.loader: Any = trainer.predict_dataloaders
            writer.file.path.rename(self.folder / "framework.npy")
        return clock.rate(self.number - self.batch)

    def compiled(self) -> float:
        return extraction(self.folder, self.load, self.compiled_module, self.data)

    def by_hand(self) -> float:
        trunk = self.trunk.to(self.load.device).eval()
        with torch.inference_mode(), self.load.autocast():
            return self._loop("by_hand", np.float16, lambda images: trunk(images).half())

    def plain(self) -> float:
        network = self.plain_network.to(self.load.device)
        mean, std = self.trunk.mean.to(self.load.device), self.trunk.std.to(self.load.device)
        with torch.inference_mode():
            return self._loop("plain", np.float32, lambda images: network((images / 255 - mean) / std))

    def _loop(self, name: str, dtype: Any, features_of: Any) -> float:
        clock = Clock(self.load.device)
        features = np.empty((self.number, DIM), dtype)
        for images, _, index in self.loader:
            batch = features_of(images.to(self.load.device, non_blocking=True))
            features[index.numpy()] = batch.cpu().numpy()
            clock.first()
        np.save(self.folder / f"{name}.npy", features)
        clock.tick()
        return clock.rate(self.number - self.batch)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) of (N, D)."""
    return np.asarray((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
