"""The student's options: what a step costs with many clusters, with a sample of them, with several labels.

On the CPU "by parts": the step of a ResNet-50 at 224 px with 1,000 clusters, of 32 images and taken eight
times, and what the head alone takes more for a batch of 256.

A step with K = 1,000,000 on a GPU, by arithmetic: D = 2048, float32 with SGD's momentum, rate 0.1 and so
s = 100,000 rows that compete, (s, D) being 0.82 GB; ResNet-50, 224 px, batch 256 in bf16.

    weight and momentum, (K, D)                                             16.4 GB
    the rows that compete: weight, gradient, momentum and two temporaries    4.1 GB
    logits and their gradient, (256, s), some six of them                    0.6 GB
    what the ResNet-50 keeps for its backward pass, 43.8 MB an image        11.2 GB
    together                                                                32.3 GB

A gradient of (K, D) would add 8.2 GB. Bytes that the head moves: the rows are read or written some 25 times,
20 GB, 6 ms at 3.35 TB/s; the ResNet-50 takes 85 ms at 3,000 images a second.
"""

import gc
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from measuring import Bound, Row, in_turn, ratio
from throughput import Clock
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cf_lightning.data.folder import FolderImages
from cf_lightning.heads.base import HeadRecipe
from cf_lightning.heads.cosine import Cosine
from cf_lightning.heads.linear import Linear
from cf_lightning.losses.base import Loss
from cf_lightning.losses.cross_entropy import CrossEntropy
from cf_lightning.losses.multi_label import MLCD
from cf_lightning.models.torchvision import TorchvisionTrunk
from cf_lightning.models.trunk import Trunk
from cf_lightning.runtime import Runtime
from cf_lightning.tasks.clusters import Clusters
from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier
from cf_lightning.trainer import build_trainer

ROUNDS, BATCH, DIM = 3, 256, 2048
LINEAR, CROSS_ENTROPY = Linear(), CrossEntropy()


@dataclass(frozen=True)
class Learned:
    """What the student learns.

    Attributes:
        k: clusters.
        labels: of each image.
        head: how they are compared.
        loss: of logits and labels.
        dim: of the features where the head is measured alone; its time is then taken in proportion to it,
            which is too much for what does not depend on it (draws, logits).
    """

    k: int
    labels: int = 1
    head: HeadRecipe = LINEAR
    loss: Loss = CROSS_ENTROPY
    dim: int = DIM


@dataclass(frozen=True)
class Option:
    """A line: one thing that can be learned against another, and the bound of their steps' ratio."""

    name: str
    ours: Learned
    theirs: Learned
    bound: Bound


FEW, MANY = Learned(1000), Learned(65_536)
MILLION = Learned(1_000_000, head=Cosine(rate=0.1), dim=512)  # with 2048 it would take 20 GB
OPTIONS = (
    Option("k = 65,536 / k = 1,000", MANY, FEW, Bound("<=", 1.1)),
    Option(
        "k = 1,000,000, rate 0.1 / k = 1,000, cosines",
        MILLION,
        Learned(1000, head=Cosine()),
        Bound("<=", 1.15),
    ),
    Option(
        "8 labels, MLCD / 1 label, cross-entropy, k = 65,536",
        Learned(65_536, labels=8, loss=MLCD()),
        MANY,
        Bound("<=", 1.05),
    ),
)
EVERY = tuple(dict.fromkeys(learned for option in OPTIONS for learned in (option.ours, option.theirs)))


@dataclass(frozen=True)
class Load:
    """A network, or none, and its batch."""

    device: Literal["cpu", "cuda"]
    network: str
    side: int
    batch: int
    steps: int

    def __str__(self) -> str:
        return f"{self.network}, {self.side} px, batch {self.batch}, {self.device}"

    def trunk(self, dim: int) -> Trunk:
        """The network; without one, ``dim`` features that cost nothing."""
        if self.network == "none":
            return Trunk(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, dim)), dim)
        return TorchvisionTrunk(name=self.network).build()


GPU = Load("cuda", "resnet50", 224, BATCH, 30)
NETWORK, HEAD = Load("cpu", "resnet50", 224, 32, 1), Load("cpu", "none", 8, BATCH, 1)


def rows(folder: Path) -> Iterator[Row]:
    yield from by_parts()
    if not torch.cuda.is_available():
        yield Row("The student's options on a GPU")
        return
    steps = in_turn(*(Step(GPU, learned) for learned in EVERY), rounds=ROUNDS, warm_up=False)
    yield from lines(str(GPU), dict(zip(EVERY, steps, strict=True)))


def by_parts() -> Iterator[Row]:
    """The step of a ResNet-50, and what a head takes beside it."""
    sides = Step(NETWORK, FEW), *(Step(HEAD, learned) for learned in EVERY)
    networks, *heads = in_turn(*sides, rounds=ROUNDS, warm_up=False)
    few = heads[EVERY.index(FEW)]
    steps = {
        learned: [
            network * BATCH / NETWORK.batch + head * DIM / learned.dim - own
            for network, head, own in zip(networks, times, few, strict=True)
        ]
        for learned, times in zip(EVERY, heads, strict=True)
    }
    yield from lines(f"resnet50, 224 px, batch {BATCH}, cpu, by parts", steps)


def lines(where: str, steps: dict[Learned, list[float]]) -> Iterator[Row]:
    for option in OPTIONS:
        yield ratio(
            f"Step: {option.name} ({where})", steps[option.ours], steps[option.theirs], option.bound, "s"
        )


class Step:
    """Seconds of a training step of the framework after a first one, with images that are in memory."""

    def __init__(self, load: Load, learned: Learned) -> None:
        self.load = load
        torch.manual_seed(0)
        task = Clusters(loss=learned.loss, head=learned.head)
        trunk = load.trunk(learned.dim)
        self.module = PseudoLabelClassifier(trunk, learned.k, task, batch_size=load.batch)
        images = torch.randint(256, (load.batch, 3, load.side, load.side), dtype=torch.uint8)
        targets = torch.randint(learned.k, (load.batch, learned.labels))
        self.batch = (images, targets, torch.arange(load.batch))

    def __call__(self) -> float:
        clock, load = Clock(self.load.device), self.load
        runtime = Runtime(devices=1, accelerator=load.device, progress=False)
        with tempfile.TemporaryDirectory() as out:
            trainer = build_trainer(runtime, Path(out), "auto", [clock])
            trainer.fit(self.module, Repeated(self.batch, load.steps + 1))
        self.module.zero_grad()
        self.module.trainer = None
        del trainer
        gc.collect()  # momentum of one side at a time: trainers are cycles of references
        return 1 / clock.rate(load.steps)


class Repeated(LightningDataModule):
    """The same batch again and again."""

    source = FolderImages(root=".")  # the bar asks it what its samples are

    def __init__(self, batch: tuple[Tensor, Tensor, Tensor], steps: int) -> None:
        super().__init__()
        self.batch_size, self.batch, self.steps = len(batch[0]), batch, steps

    def train_dataloader(self) -> DataLoader[Any]:
        batches: Any = [self.batch] * self.steps
        return DataLoader(batches, batch_size=None)
