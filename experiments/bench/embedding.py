"""Extraction against lightly's own loop, ``SelfSupervisedEmbedding.embed``, where it is installed."""

import contextlib
import io
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from images import make_images
from measuring import Bound, Row, in_turn, ratio
from throughput import Clock, Load, extraction, folded
from torch import nn
from torch.utils.data import DataLoader
from torchvision import models
from torchvision.transforms import v2

from cf_lightning.data.images import ImageDataModule
from cf_lightning.features import FeatureExtractionModule

SIDE = 128
LOADS = (Load("cpu", 32, 32, 12), Load("cuda", 256, 256, 40))


def rows(folder: Path) -> Iterator[Row]:
    for load in LOADS:
        what = (
            f"Extraction / lightly's embed (ResNet-50, {SIDE} px, batch {load.extract_batch}, {load.device})"
        )
        if load.device == "cuda" and not torch.cuda.is_available():
            yield Row(what)
        elif find_spec("lightly") is None:
            yield Row(what, note="not installed")
        else:
            ours, theirs = in_turn(*sides(folder / load.device, load), rounds=3)
            yield ratio(what, ours, theirs, Bound(">=", 2.5), "images/s")


def sides(folder: Path, load: Load) -> tuple[Any, Any]:
    """Images a second after the first batch, the same network, batches and number of loader processes."""
    number, workers = load.extract_batch * load.batches, load.runtime.num_workers()
    source = make_images(folder / "images", number, file_side=160, side=SIDE)
    data = ImageDataModule(source, batch_size=load.extract_batch, workers=workers)
    module = FeatureExtractionModule(folded())
    return lambda: extraction(folder, load, module, data), lambda: lightly(folder, load, workers)


def lightly(folder: Path, load: Load, workers: int) -> float:
    """As its command line goes about it: float32, NCHW, PIL; then the features in a file."""
    from lightly.data import LightlyDataset
    from lightly.embedding import SelfSupervisedEmbedding

    steps = [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    dataset = LightlyDataset(str(folder / "images"), v2.Compose([v2.Resize((SIDE, SIDE)), *steps]))
    loader: Any = DataLoader(dataset, load.extract_batch, num_workers=workers)
    network, clock = models.resnet50(), Clock(load.device)
    network.fc = nn.Identity()  # type: ignore[assignment]
    network.register_forward_hook(lambda *_: clock.first())
    encoder: Any = SelfSupervisedEmbedding(nn.ModuleDict({"backbone": network}), None, None, loader)
    with contextlib.redirect_stderr(io.StringIO()):  # its bar
        features, *_ = encoder.to(load.device).embed(loader, torch.device(load.device))
    np.save(folder / "lightly.npy", features)
    clock.tick()
    return clock.rate(len(dataset) - load.extract_batch)
