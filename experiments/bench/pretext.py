"""Pretext tasks on a ResNet-50: what making a batch costs, and our step against one written by hand."""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from images import make_images
from lightning.pytorch import Callback
from measuring import Bound, Row, in_turn, ratio, seconds
from safetensors.torch import load_file, save_file
from throughput import Clock, Load
from torch import Tensor
from torch.nn import functional

from cf_lightning.callbacks.history import History
from cf_lightning.data.images import ImageDataModule
from cf_lightning.data.views import Augmentation
from cf_lightning.models.torchvision import TorchvisionTrunk
from cf_lightning.optimization import SGD
from cf_lightning.stages.permutations import Permutations
from cf_lightning.tasks.base import Task
from cf_lightning.tasks.distillation import Distillation
from cf_lightning.tasks.draws import Draws
from cf_lightning.tasks.hashtags import Hashtags
from cf_lightning.tasks.jigsaw import Jigsaw
from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier
from cf_lightning.tasks.rotation import Rotation
from cf_lightning.tasks.supervised import Supervised
from cf_lightning.trainer import build_trainer

ByHand = Callable[[PseudoLabelClassifier, Tensor, Tensor], Tensor]
CLASSES, ANGLES, ORDERS = 1000, 4, 2000
LOADS = (Load("cpu", 32, 32, 5), Load("cuda", 256, 256, 40))


@dataclass(frozen=True)
class Pretext:
    """One task: its targets, and the loss of a batch as a plain training script computes it."""

    task: Task
    targets: np.ndarray
    classes: int
    by_hand: ByHand
    makes_batches: bool = False


def rows(folder: Path) -> Iterator[Row]:
    for load in LOADS:
        if load.device == "cuda" and not torch.cuda.is_available():
            yield Row("Pretext tasks on a GPU")
            continue
        place = folder / load.device / "pretext"
        number = load.train_batch * load.batches
        source = make_images(place / "images", number, file_side=80, side=64)
        for pretext in pretexts(place, number):
            view, workers = Augmentation(min_area=None), load.runtime.num_workers()
            data = ImageDataModule(
                source,
                targets=pretext.targets,
                augmentation=view,
                batch_size=load.train_batch,
                workers=workers,
            )
            yield from Steps(place, load, pretext, data, "resnet50", Bound(">=", 0.95)).rows()


def pretexts(folder: Path, number: int) -> list[Pretext]:
    Permutations(count=ORDERS).run(folder)
    jigsaw = Jigsaw()
    jigsaw.prepare(permutations=folder)
    rng = np.random.default_rng(0)
    tags = rng.integers(0, CLASSES, (number, 3))
    tags[rng.random(number) < 0.5, 1:] = -1
    none = np.zeros(number, dtype=np.int64)
    return [
        Pretext(Hashtags(), tags, CLASSES, hashtags),
        Pretext(Rotation(), none, ANGLES, rotation, makes_batches=True),
        Pretext(jigsaw, none, ORDERS, Puzzle(np.load(folder / "permutations.npy")), makes_batches=True),
        Pretext(distillation(folder), none, CLASSES, Pupil(folder)),
    ]


def distillation(folder: Path) -> Distillation:
    """Prepared with a teacher of random weights."""
    torch.manual_seed(1)
    teacher = PseudoLabelClassifier(TorchvisionTrunk(name="resnet50").build(), CLASSES)
    teacher.trunk.save(folder)
    save_file(teacher.head.state_dict(), folder / "head.safetensors")
    task = Distillation(model=TorchvisionTrunk(name="resnet50"), labels=Supervised())
    task.prepare(teacher=folder)
    return task


class Steps:
    """The same batches, with the same optimiser and schedule, in two ways."""

    def __init__(
        self, folder: Path, load: Load, pretext: Pretext, data: ImageDataModule, network: str, bound: Bound
    ) -> None:
        self.folder, self.load, self.pretext, self.data = folder, load, pretext, data
        self.network, self.bound = network, bound
        self.batch, self.number = load.train_batch, load.train_batch * load.batches

    def rows(self) -> Iterator[Row]:
        name = type(self.pretext.task).__name__
        side = self.data.source.view.crop
        where = f"{self.network}, {side} px, batch {self.batch}, {self.load.device}"
        sides = (self.framework, self.by_hand, self.making)
        ours, by_hand, making = in_turn(*sides, rounds=5, warm_up=False)  # the first batch is one
        yield ratio(f"{name} / by hand ({where})", ours, by_hand, self.bound, "images/s")
        if self.pretext.makes_batches:
            steps = [1000 * self.batch / rate for rate in ours]
            yield ratio(f"{name}: making a batch / the step ({where})", making, steps, Bound("<=", 0.1), "ms")

    def framework(self) -> float:
        clock = Clock(self.load.device)
        with tempfile.TemporaryDirectory(dir=self.folder) as out:
            callbacks: list[Callback] = [clock, History(Path(out))]
            trainer = build_trainer(self.load.runtime, Path(out), "auto", callbacks)
            warnings.filterwarnings("ignore", ".*Total length of .*")  # nothing to validate on
            trainer.fit(self._module(), self.data)
            self.loader: Any = trainer.train_dataloader
        return clock.rate(self.number - self.batch)

    def by_hand(self) -> float:
        clock, device = Clock(self.load.device), self.load.device
        module = self._module().to(device).train()
        recipe = module.optimization.build(module, self.batch, self.load.batches)
        optimizer, scheduler = recipe["optimizer"], recipe["lr_scheduler"]["scheduler"]
        for images, targets, _ in self.loader:
            images, targets = images.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            with self.load.autocast():
                loss = self.pretext.by_hand(module, images, targets)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
            clock.first()
        clock.tick()
        return clock.rate(self.number - self.batch)

    def making(self, times: int = 20) -> float:
        """Milliseconds of ``Task.batch``."""
        device = self.load.device
        images = torch.randint(256, (self.batch, 3, 64, 64), dtype=torch.uint8, device=device)
        index = torch.arange(self.batch, device=device)

        def make() -> None:
            for epoch in range(times):
                self.pretext.task.batch(images, index, Draws(index, 0, epoch))
            if device == "cuda":
                torch.cuda.synchronize()

        return 1000 * seconds(make) / times

    def _module(self) -> PseudoLabelClassifier:
        torch.manual_seed(0)
        trunk = TorchvisionTrunk(name=self.network).build()
        recipe = SGD()
        return PseudoLabelClassifier(trunk, self.pretext.classes, self.pretext.task, recipe, self.batch)


def supervised(module: PseudoLabelClassifier, images: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(module.head(module.trunk(images)), targets)


def hashtags(module: PseudoLabelClassifier, images: Tensor, targets: Tensor) -> Tensor:
    logits = module.head(module.trunk(images))
    present = (targets >= 0).float()
    shares = torch.zeros_like(logits, dtype=torch.float32)
    shares.scatter_add_(1, targets.clamp(min=0), present / present.sum(1, keepdim=True))
    return functional.cross_entropy(logits, shares)


def rotation(module: PseudoLabelClassifier, images: Tensor, targets: Tensor) -> Tensor:
    turns = torch.randint(ANGLES, (len(images),))
    pairs = zip(images, turns.tolist(), strict=True)
    turned = torch.stack([image.rot90(quarter, (1, 2)) for image, quarter in pairs])
    return functional.cross_entropy(module.head(module.trunk(turned)), turns.to(images.device))


class Puzzle:
    """Patches cut image by image, as most scripts do it."""

    def __init__(self, orders: np.ndarray) -> None:
        self.orders = orders.tolist()

    def __call__(self, module: PseudoLabelClassifier, images: Tensor, targets: Tensor) -> Tensor:
        numbers = torch.randint(ORDERS, (len(images),))
        pairs = zip(images, numbers.tolist(), strict=True)
        patches = torch.stack([self._cut(image, self.orders[number]) for image, number in pairs])
        features = module.trunk(patches.flatten(0, 1)).unflatten(0, (len(images), 9))
        return functional.cross_entropy(module.head(features), numbers.to(images.device))

    def _cut(self, image: Tensor, order: list[int]) -> Tensor:
        """(9, 3, 16, 16) of (3, 64, 64)."""
        if torch.rand(()) < 0.66:
            weights = torch.tensor([0.299, 0.587, 0.114], device=image.device).view(3, 1, 1)
            image = (image * weights).sum(0, keepdim=True).byte().expand(3, -1, -1)
        places = torch.randint(6, (9, 2)).tolist()
        corners = [
            (cell // 3 * 21 + y, cell % 3 * 21 + x) for cell, (y, x) in zip(order, places, strict=True)
        ]
        return torch.stack([image[:, top : top + 16, left : left + 16] for top, left in corners])


class Pupil:
    """Distillation at temperature 4 as most scripts do it."""

    def __init__(self, folder: Path) -> None:
        self.trunk = TorchvisionTrunk(name="resnet50").build().load(folder).requires_grad_(False).eval()
        self.trunk = self.trunk.to(memory_format=torch.channels_last)
        self.head = torch.nn.Linear(2048, CLASSES).requires_grad_(False)
        self.head.load_state_dict(load_file(folder / "head.safetensors"))

    def __call__(self, module: PseudoLabelClassifier, images: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            told = self.head.to(images.device)(self.trunk.to(images.device)(images)).float()
        logits = module.head(module.trunk(images)).float()
        soft, log_p = functional.softmax(told / 4, dim=1), functional.log_softmax(logits / 4, dim=1)
        return 16 * functional.kl_div(log_p, soft, reduction="batchmean")
