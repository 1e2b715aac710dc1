"""Two processes of one thread against one: extraction and training, as torchrun starts them; a divided trunk.

Called with what to do and a folder of images, this file is one of the processes.
"""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from images import make_images
from lightning.pytorch import Callback
from measuring import Bound, Row, in_turn, ratio
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
    for what in ("extract", "train"):
        two, one = in_turn(
            lambda: group(2, what, images),  # noqa: B023
            lambda: group(1, what, images),  # noqa: B023
            rounds=3,
            warm_up=False,  # each is a process of its own, and counts from its second batch on
        )
        name = f"{what.capitalize()}: 2 processes of a thread / 1 (ResNet-18, {SIDE} px, cpu)"
        yield ratio(name, two, one, Bound(">=", 1.6), "images/s")
    divided, whole = in_turn(
        lambda: group(2, "divided", images, **GIVE_BACK),
        lambda: group(2, "whole", images, **GIVE_BACK),
        rounds=3,
        warm_up=False,
    )
    name = "Train: memory of a process, trunk divided between 2 / whole in both (ViT-S, AdamW, cpu)"
    yield ratio(name, divided, whole, Bound("<=", 0.6), "MiB")


def group(number: int, what: str, images: Path, **more: str) -> float:
    """Images a second of so many processes, each with a core of its own; or the MiB of the first."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:number]))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}"]
    command = ["taskset", "-c", cores, *launcher, __file__, what, str(images)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(next(line for line in done.stdout.splitlines() if line.startswith("figure ")).split()[1])


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


def main(what: str, images: Path) -> None:
    world = int(os.environ["WORLD_SIZE"])
    runtime = Runtime(accelerator="cpu", devices=world, progress=False)
    view, clock = View(resize=SIDE, crop=SIDE), Steady("cpu")
    source = FolderImages(root=str(images), view=view, holdout=0.0)
    trunk = TorchvisionTrunk(name="resnet18").build()
    callbacks: list[Callback] = [clock]
    if what == "extract":
        data = ImageDataModule(source, batch_size=BATCH)
        out = Path(tempfile.gettempdir()) / f"rows_of_{os.getppid()}.npy"
        writer = RowWriter(out, (len(data.index), DIM), "float16")
        trainer = build_trainer(runtime, images, "auto", [*callbacks, writer])
        trainer.predict(FeatureExtractionModule(trunk), data, return_predictions=False)
        rate = clock.batches() * BATCH * world
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            out.unlink()
    else:
        data = ImageDataModule(source, augmentation=Augmentation(), batch_size=TRAIN_BATCH)
        module = PseudoLabelClassifier(trunk, CLASSES, Supervised(), batch_size=TRAIN_BATCH)
        trainer = build_trainer(runtime, images, "auto", callbacks)
        trainer.fit(convert(module) if world > 1 else module, data)  # type: ignore[arg-type]
        rate = clock.batches() * TRAIN_BATCH
    if trainer.is_global_zero:
        print(f"figure {rate}", flush=True)


def memory(what: str, images: Path) -> None:
    """At the peak of a training, beyond what the process had before there was a network."""
    runtime = Runtime(accelerator="cpu", devices=2, progress=False, shard=what == "divided")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    module = PseudoLabelClassifier(
        TimmTrunk(name="vit_small_patch16_224").build(), CLASSES, Supervised(), AdamW(), batch_size=8
    )
    source = FolderImages(root=str(images), view=View(resize=SIDE, crop=SIDE), holdout=0.0)
    data = ImageDataModule(source, augmentation=Augmentation(), batch_size=8)
    trainer = build_trainer(runtime, images, "32-true", [])
    trainer.fit_loop.epoch_loop.max_steps = 4
    trainer.fit(module, data)
    if trainer.is_global_zero:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"figure {(peak - before) / 1024}", flush=True)


if __name__ == "__main__":
    measure = main if sys.argv[1] in ("extract", "train") else memory
    with operators(f"{sys.argv[1]}, rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}"):
        measure(sys.argv[1], Path(sys.argv[2]))
