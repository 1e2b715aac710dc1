"""Anonymous memory of a process, watched from outside: extraction and training, and the clustering stage.

Called with one of the first two and a folder of images, this file is that process.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from clustering_memory import MACHINE, MIB, clustering
from images import add_links, make_images
from measuring import Bound, Row, in_turn, ratio, watched

from cf_lightning.callbacks.row_writer import RowWriter
from cf_lightning.data.folder import FolderImages
from cf_lightning.data.images import ImageDataModule
from cf_lightning.data.index import Index
from cf_lightning.data.views import Augmentation, View
from cf_lightning.features import FeatureExtractionModule
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.rows import describe_rows
from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier
from cf_lightning.trainer import build_trainer

IMAGES, SIDE, BATCH = 1000, 16, 256
WIDTH = 8  # of the network
FLAT = (10_000, 100_000)
OWN = sys.executable, __file__


def rows(folder: Path) -> Iterator[Row]:
    yield from flat(folder)
    yield clustering(folder)


def flat(folder: Path) -> Iterator[Row]:
    """A whole process that reads the index and goes on, with ten times the images; a thousand differ."""
    for number in FLAT:
        root = folder / str(number)
        source = make_images(root / "images", IMAGES, file_side=SIDE, side=SIDE)
        add_links(root / "images", number)
        source.index().write(root)
    for what in ("extract", "train"):
        few, many = in_turn(
            lambda: watched(*OWN, what, str(folder / str(FLAT[0])))[1] / MIB,  # noqa: B023
            lambda: watched(*OWN, what, str(folder / str(FLAT[1])))[1] / MIB,  # noqa: B023
            rounds=1,
            warm_up=False,
        )
        name = f"{what.capitalize()}: memory at the peak with {FLAT[1]} images / with {FLAT[0]}"
        yield ratio(name, many, few, Bound("<=", 1.05), "MiB", digits=3)


def source_of(root: Path) -> FolderImages:
    return FolderImages(root=str(root / "images"), view=View(resize=SIDE, crop=SIDE), holdout=0.0)


def extract(root: Path) -> None:
    out = Path(tempfile.mkdtemp(dir=root))
    data = ImageDataModule(source_of(root), index=Index.read(root), batch_size=BATCH)
    module = FeatureExtractionModule(TinyTrunk(width=WIDTH).build(), dtype=torch.float32)
    writer = RowWriter(out / "features.npy", (len(data.index), 8 * WIDTH), "float32")
    trainer = build_trainer(MACHINE, out, "auto", [writer])
    trainer.predict(module, data, return_predictions=False)
    writer.finish()
    describe_rows(out, "features", data.index)


def train(root: Path) -> None:
    data = ImageDataModule(
        source_of(root), index=Index.read(root), augmentation=Augmentation(), batch_size=BATCH
    )
    module = PseudoLabelClassifier(TinyTrunk(width=WIDTH).build(), 8, batch_size=BATCH)
    build_trainer(MACHINE, root, "auto", []).fit(module, data)


if __name__ == "__main__":
    measured = {"extract": extract, "train": train}
    print("warm", flush=True)  # all of it counts
    measured[sys.argv[1]](Path(sys.argv[2]))
