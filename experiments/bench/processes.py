"""Two processes of one thread, each with a core of its own, against one; a divided trunk.

Called with what to do and a folder of images, this file is one of the processes.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from images import make_images
from lightning.pytorch import Trainer
from measuring import Bound, Row, in_memory, in_turn, ratio
from profiling import operators
from throughput import Clock

from cf_lightning.callbacks.row_writer import RowWriter
from cf_lightning.data.folder import FolderImages
from cf_lightning.data.images import ImageDataModule
from cf_lightning.data.views import Augmentation, View
from cf_lightning.features import FeatureExtractionModule
from cf_lightning.models.sync_batchnorm import convert
from cf_lightning.models.timm import TimmTrunk
from cf_lightning.models.torchvision import TorchvisionTrunk
from cf_lightning.nodes import free_port
from cf_lightning.optimization import AdamW
from cf_lightning.runtime import Runtime
from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier
from cf_lightning.tasks.supervised import Supervised
from cf_lightning.trainer import build_trainer

SIDE, BATCH, BATCHES = 96, 32, 16  # images of each process at once in extraction
TRAIN_BATCH = 128  # of both processes: a gradient of 45 MB is exchanged for each
DIM, CLASSES = 512, 8
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "500000"}  # glibc by and by keeps freed blocks of up to 32 MB


def rows(folder: Path) -> Iterator[Row]:
    images = folder / "processes"
    make_images(images, BATCH * BATCHES, file_side=112, side=SIDE)
    two, one = in_turn(
        lambda: group(2, "rates", images),
        lambda: group(1, "rates", images),
        rounds=3,
        warm_up=False,  # each is a process of its own, and counts from its second batch on
    )
    for what in ("extract", "train"):
        name = f"{what.capitalize()}: 2 processes of a thread / 1 (ResNet-18, {SIDE} px, cpu)"
        both = ([figures[what] for figures in side] for side in (two, one))
        yield ratio(name, *both, Bound(">=", 1.6), "images/s")
    divided, whole = in_turn(
        lambda: group(2, "divided", images, **GIVE_BACK)["memory"],
        lambda: group(2, "whole", images, **GIVE_BACK)["memory"],
        rounds=3,
        warm_up=False,
    )
    name = "Train: memory of a process, trunk divided between 2 / whole in both (ViT-B, AdamW, cpu)"
    yield ratio(name, divided, whole, Bound("<=", 0.6), "MiB")


def group(number: int, what: str, images: Path, **more: str) -> dict[str, float]:
    """Images a second of so many processes, each with a core of its own; or the MiB of the first."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:number]))
    command = ["taskset", "-c", cores, sys.executable, __file__, what, str(images)]
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(number), **more}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [
        subprocess.Popen(
            command,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(number)
    ]
    told = [rank.communicate() for rank in ranks]
    for rank, (_, error) in zip(ranks, told, strict=True):
        if rank.returncode:
            raise RuntimeError(error)
    figures = (line.split() for line in told[0][0].splitlines() if line.startswith("figure "))
    return {name: float(figure) for _, name, figure in figures}


class Steady(Clock):
    """The time from the second batch to the last, in which both processes are at work."""

    def on_predict_batch_end(self, *_: Any, **__: Any) -> None:
        self.tick()

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.tick()

    def on_train_epoch_end(self, *_: Any, **__: Any) -> None:
        """The last batch has told."""

    def batches(self) -> float:
        """A second."""
        times = self.times[1:]
        return (len(times) - 1) / (times[-1] - times[0])


def rates(what: str, images: Path) -> None:
    world = int(os.environ["WORLD_SIZE"])
    runtime = Runtime(accelerator="cpu", devices=world, progress=False)
    source = FolderImages(root=str(images), view=View(resize=SIDE, crop=SIDE), holdout=0.0)
    trunk = TorchvisionTrunk(name="resnet18").build()

    data, clock = ImageDataModule(source, batch_size=BATCH), Steady("cpu")
    out = Path(tempfile.gettempdir()) / f"rows_of_{os.getppid()}.npy"
    writer = RowWriter(out, (len(data.index), DIM), "float16")
    trainer = build_trainer(runtime, images, "auto", [clock, writer])
    trainer.predict(FeatureExtractionModule(trunk), data, return_predictions=False)
    tell(trainer, "extract", clock.batches() * BATCH * world)
    trainer.strategy.barrier()
    if trainer.is_global_zero:
        out.unlink()

    data, clock = ImageDataModule(source, augmentation=Augmentation(), batch_size=TRAIN_BATCH), Steady("cpu")
    module = PseudoLabelClassifier(trunk, CLASSES, Supervised(), batch_size=TRAIN_BATCH)
    trainer = build_trainer(runtime, images, "auto", [clock])
    trainer.fit(convert(module) if world > 1 else module, data)  # type: ignore[arg-type]
    tell(trainer, "train", clock.batches() * TRAIN_BATCH)


def memory(what: str, images: Path) -> None:
    """At the peak of a training, beyond what the process had before there was a network."""
    runtime = Runtime(accelerator="cpu", devices=2, progress=False, shard=what == "divided")
    before = peak()
    module = PseudoLabelClassifier(
        TimmTrunk(name="vit_base_patch16_224").build(), CLASSES, Supervised(), AdamW(), batch_size=2
    )
    source = FolderImages(root=str(images), view=View(resize=32, crop=32), holdout=0.0)
    data = ImageDataModule(source, augmentation=Augmentation(), batch_size=2)
    trainer = build_trainer(runtime, images, "32-true", [])
    trainer.fit_loop.epoch_loop.max_steps = 3
    trainer.fit(module, data)
    tell(trainer, "memory", peak() - before)


def peak() -> float:
    """MiB so far; ``ru_maxrss`` would begin with what the process had that started this one."""
    return in_memory(os.getpid(), "VmHWM") / 2**20


def tell(trainer: Trainer, name: str, figure: float) -> None:
    if trainer.is_global_zero:
        print("figure", name, figure, flush=True)


if __name__ == "__main__":
    measure = rates if sys.argv[1] == "rates" else memory
    with operators(f"{sys.argv[1]}, rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}"):
        measure(sys.argv[1], Path(sys.argv[2]))
