"""Against what people start from: ImageFolder with PIL, and Lightning as it comes (fp32, eager, NCHW)."""

import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import profiling
import torch
from images import add_links, make_images, make_photos
from lightning.pytorch import LightningModule, Trainer
from measuring import Bound, Row, in_turn, ratio, seconds
from throughput import Clock, Load, extraction, folded
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import models
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from cf_lightning.data.folder import FolderImages
from cf_lightning.data.images import ImageDataModule
from cf_lightning.data.index import Index
from cf_lightning.data.views import Augmentation, View
from cf_lightning.features import FeatureExtractionModule
from cf_lightning.models.torchvision import TorchvisionTrunk
from cf_lightning.stages.resized import Resize
from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier
from cf_lightning.tasks.supervised import Supervised
from cf_lightning.trainer import build_trainer

PHOTO, CROP, WORKERS = 400, 224, 2  # pixels of the files, and of what a network sees
SHORT_SIDE = 256  # of the cache
SIDE, BATCH, STEPS, CLASSES = 128, 32, 6, 8
LOAD = Load("cpu", BATCH, BATCH, STEPS)
LOADS = (LOAD, Load("cuda", 256, 256, 40))
NORMALISED = [
    v2.ToImage(),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
]


def rows(folder: Path) -> Iterator[Row]:
    yield loading(make_images(folder / "photos", 512, file_side=PHOTO, side=CROP))
    yield from loading_from_cache(folder)
    yield loading_large_photos(folder)
    for load in LOADS:
        if load.device == "cuda" and not torch.cuda.is_available():
            yield Row("Training and extraction / Lightning by default on a GPU")
        else:
            yield from Sides(folder / load.device, load).rows()


def loading(source: FolderImages) -> Row:
    """Random crops and flips of the same files, by two processes."""
    source = source.model_copy(update={"view": View(resize=CROP * 8 // 7, crop=CROP)})
    what = f"Loading / ImageFolder with PIL ({PHOTO} px JPEGs, crops of {CROP} px, {WORKERS} processes each)"
    return against_image_folder(what, source, None, Bound(">=", 1.7))


def loading_from_cache(folder: Path) -> Iterator[Row]:
    """The same of photos, which ours has resized before and theirs decodes whole each time."""
    source, listing = make_photos(folder / "photos_500", 128, CROP), folder / "listing"
    add_links(folder / "photos_500", 512)
    listing.mkdir()
    source.index().write(listing)
    for encoding in ("jpeg", "raw"):
        cache = folder / encoding
        cache.mkdir()
        resize = Resize(data=source, short_side=SHORT_SIDE, encoding=encoding, runtime=LOAD.runtime)
        resize.run(cache, data=listing)
        what = f"Loading from the {encoding} cache of {SHORT_SIDE} px / ImageFolder with PIL (500 x 375 px)"
        yield against_image_folder(what, source, Index.read(cache), Bound(">=", 4.0))


def loading_large_photos(folder: Path) -> Row:
    """The same of photos of 6 megapixels, as they are."""
    source = make_photos(folder / "photos_3000", 8, CROP, size=(2000, 3000), softness=4.0)
    add_links(folder / "photos_3000", 96)
    what = "Loading large photos / ImageFolder with PIL (3000 x 2000 px, as above)"
    return against_image_folder(what, source, None, Bound(">=", 1.5))


def against_image_folder(what: str, source: FolderImages, index: Index | None, bound: Bound) -> Row:
    """An epoch of our loader and one of theirs; ``index`` says where ours reads."""
    workers = 0 if profiling.wanted() else WORKERS  # what they do is then seen
    data = ImageDataModule(
        source, index=index, augmentation=Augmentation(), batch_size=BATCH, workers=workers
    )
    steps = [v2.RandomResizedCrop(CROP), v2.RandomHorizontalFlip(), *NORMALISED]
    folder = ImageFolder(str(source.root), v2.Compose(steps))
    theirs = DataLoader(folder, BATCH, shuffle=True, num_workers=workers, drop_last=True)
    ours = data.train_dataloader()
    images = len(folder) // BATCH * BATCH
    fast, plain = in_turn(
        lambda: images / seconds(lambda: deque(ours, maxlen=0)),
        lambda: images / seconds(lambda: deque(theirs, maxlen=0)),
    )
    return ratio(what, fast, plain, bound, "images/s")


class Default(LightningModule):
    """A ResNet-50 as a tutorial has it."""

    def __init__(self, classifier: bool) -> None:
        super().__init__()
        self.network = models.resnet50(num_classes=CLASSES)
        if not classifier:
            self.network.fc = torch.nn.Identity()  # type: ignore[assignment]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return functional.cross_entropy(self.network(batch[0]), batch[1])

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        features: Tensor = self.network(batch[0])
        return features

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)


class Sides:
    """Images a second after the first batch; each loads as it would, with as many processes."""

    def __init__(self, folder: Path, load: Load) -> None:
        self.folder, self.load, self.workers = folder, load, load.runtime.num_workers()
        self.batch, self.number = load.train_batch, load.train_batch * load.batches
        self.source = make_images(folder / "small", self.number, file_side=160, side=SIDE)

    def rows(self) -> Iterator[Row]:
        where = f"ResNet-50, {SIDE} px, batch {self.batch}, {self.load.device}"
        for what, ours, default, bound in (
            ("Training", self.train, self.default_train, 1.8),
            ("Extraction", self.predict, self.default_predict, 2.5),
        ):
            fast, plain = in_turn(ours, default, rounds=3, warm_up=False)  # the first batch is one
            name = f"{what} / Lightning by default ({where})"
            yield ratio(name, fast, plain, Bound(">=", bound), "images/s")

    def train(self) -> float:
        data = ImageDataModule(
            self.source, augmentation=Augmentation(), batch_size=self.batch, workers=self.workers
        )
        trunk = TorchvisionTrunk(name="resnet50").build()
        clock = Clock(self.load.device)
        with tempfile.TemporaryDirectory(dir=self.folder) as out:
            trainer = build_trainer(self.load.runtime, Path(out), "auto", [clock])
            trainer.fit(PseudoLabelClassifier(trunk, CLASSES, Supervised(), batch_size=self.batch), data)
        return clock.rate(self.number - self.batch)

    def predict(self) -> float:
        data = ImageDataModule(self.source, batch_size=self.batch, workers=self.workers)
        module = FeatureExtractionModule(folded())
        return extraction(self.folder, self.load, module, data)

    def default_train(self) -> float:
        steps = [v2.RandomResizedCrop(SIDE), v2.RandomHorizontalFlip(), *NORMALISED]
        clock = Clock(self.load.device)
        self._trainer(clock).fit(Default(classifier=True), self._loader(steps, shuffle=True))
        return clock.rate(self.number - self.batch)

    def default_predict(self) -> float:
        clock = Clock(self.load.device)
        loader = self._loader([v2.Resize(SIDE), v2.CenterCrop(SIDE), *NORMALISED], shuffle=False)
        self._trainer(clock).predict(Default(classifier=False), loader)
        clock.tick()
        return clock.rate(self.number - self.batch)

    def _loader(self, steps: list[Any], shuffle: bool) -> DataLoader[Any]:
        folder = ImageFolder(self.source.root, v2.Compose(steps))
        return DataLoader(folder, self.batch, shuffle=shuffle, num_workers=self.workers)

    def _trainer(self, clock: Clock) -> Trainer:
        return Trainer(
            accelerator=self.load.device,
            devices=1,
            max_epochs=1,
            callbacks=[clock],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
