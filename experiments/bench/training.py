"""A training step of ResNets against a loop by hand, with the same loader, precision and optimiser."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from images import make_images
from measuring import Bound, Row
from pretext import Pretext, Steps, supervised
from throughput import Load

from cf_lightning.data.images import ImageDataModule
from cf_lightning.data.views import Augmentation
from cf_lightning.tasks.supervised import Supervised

CLASSES, SIDE = 1000, 128
LOADS = (Load("cpu", 32, 32, 6), Load("cuda", 256, 256, 40))


def rows(folder: Path) -> Iterator[Row]:
    for load in LOADS:
        if load.device == "cuda" and not torch.cuda.is_available():
            yield Row("Training steps on a GPU")
            continue
        number = load.train_batch * load.batches
        source = make_images(folder / load.device / "training", number, file_side=160, side=SIDE)
        targets = np.random.default_rng(0).integers(0, CLASSES, number)
        data = ImageDataModule(
            source,
            targets=targets,
            augmentation=Augmentation(),
            batch_size=load.train_batch,
            workers=load.runtime.num_workers(),
        )
        pretext = Pretext(Supervised(), targets, CLASSES, supervised)
        for network in ("resnet18", "resnet50"):
            yield from Steps(folder, load, pretext, data, network, Bound(">=", 0.97)).rows()
