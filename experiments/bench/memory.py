"""Anonymous memory of a process, watched from outside: extraction, and the clustering stage.

Called with the name of one of the two and its folders, this file is that process: it says when everything
is imported and loaded, and goes on.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from images import make_images
from lightning.pytorch import Callback
from measuring import Bound, Row, growth, in_turn, ratio, watched

from cf_lightning.callbacks.row_writer import RowWriter
from cf_lightning.clustering.faiss import FaissKMeans
from cf_lightning.data.containers import File, sample_table
from cf_lightning.data.folder import FolderImages
from cf_lightning.data.images import ImageDataModule
from cf_lightning.data.index import Index
from cf_lightning.data.views import Augmentation, View
from cf_lightning.features import FeatureExtractionModule
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.rows import describe_rows
from cf_lightning.runtime import Runtime
from cf_lightning.stages.cluster import Cluster
from cf_lightning.stages.space import Space
from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier
from cf_lightning.trainer import build_trainer

MIB = 2**20
MACHINE = Runtime(accelerator="cpu", devices=1, progress=False)
IMAGES, SIDE = 1000, 32
WIDTH = 16  # of the network
FLAT = (10_000, 100_000)
VECTORS, DIM = 60_000, 2048
OWN = sys.executable, __file__


def rows(folder: Path) -> Iterator[Row]:
    for number in FLAT:
        _many(folder / f"images_{number}", number)
    yield from flat(folder)
    yield clustering(folder)


def flat(folder: Path) -> Iterator[Row]:
    """The whole process, listing and all, with ten times the images."""
    for what in ("extract", "train"):
        few, many = in_turn(
            lambda: watched(*OWN, what, str(folder / f"images_{FLAT[0]}"))[1] / MIB,  # noqa: B023
            lambda: watched(*OWN, what, str(folder / f"images_{FLAT[1]}"))[1] / MIB,  # noqa: B023
            rounds=1,
            warm_up=False,
        )
        name = f"{what.capitalize()}: memory at the peak with {FLAT[1]} images / with {FLAT[0]}"
        yield ratio(name, many, few, Bound("<=", 1.05), "MiB", digits=3)


def clustering(folder: Path) -> Row:
    folders = [folder / "few_features", folder / "features"]
    for place, number in zip(folders, (1000, VECTORS), strict=True):
        _write_features(place, number)
    peaks = [growth(*OWN, "cluster", *map(str, folders)) / MIB for _ in range(3)]
    what = f"Clustering of {VECTORS} x {DIM}: peak memory / the float32 matrix"
    return ratio(what, peaks, [VECTORS * DIM * 4 / MIB] * len(peaks), Bound("<=", 1.2), "MiB")


def _many(root: Path, number: int) -> None:
    """Images of which a thousand differ; the others are links to these."""
    make_images(root, IMAGES, file_side=SIDE, side=SIDE)
    files = sorted(root.rglob("*.jpg"))
    for i in range(IMAGES, number):
        file = files[i % IMAGES]
        os.link(file, file.with_name(f"{i:06d}.jpg"))


def _write_features(folder: Path, number: int) -> None:
    """An artifact as extraction leaves it, with random float16 features."""
    folder.mkdir()
    files = [File(f"{i:06d}.jpg", None) for i in range(number)]
    index = Index(sample_table(files, ["train"] * number, [[]] * number, [[]] * number), "generated")
    index.write(folder)
    features = np.lib.format.open_memmap(folder / "features.npy", "w+", np.float16, (number, DIM))
    rng = np.random.default_rng(0)
    for start in range(0, number, 10_000):
        block = features[start : start + 10_000]
        block[:] = rng.standard_normal(block.shape, np.float32)
    features.flush()
    describe_rows(folder, "features", index)
    np.save(folder / "skipped.npy", np.empty(0, np.int64))


def warm() -> None:
    print("warm", flush=True)


class WarmAfterOneBatch(Callback):
    def on_train_batch_end(self, *arguments: Any, **_: Any) -> None:
        self.on_predict_batch_end(*arguments)

    def on_predict_batch_end(self, *arguments: Any, **_: Any) -> None:
        if arguments[4] == 0:  # the number of the batch
            warm()


def extract(images: str) -> None:
    root = Path(images)
    out = Path(tempfile.mkdtemp(dir=root.parent))
    source = FolderImages(root=str(root), view=View(resize=SIDE, crop=SIDE))
    data = ImageDataModule(source, batch_size=32)
    module = FeatureExtractionModule(TinyTrunk(width=WIDTH).build(), dtype=torch.float32)
    writer = RowWriter(out / "features.npy", (len(data.index), 8 * WIDTH), "float32")
    trainer = build_trainer(MACHINE, out, "auto", [writer, WarmAfterOneBatch()])
    trainer.predict(module, data, return_predictions=False)
    writer.finish()
    describe_rows(out, "features", data.index)


def train(images: str) -> None:
    root = Path(images)
    source = FolderImages(root=str(root), view=View(resize=SIDE, crop=SIDE), holdout=0.0)
    data = ImageDataModule(source, augmentation=Augmentation(), batch_size=32)
    module = PseudoLabelClassifier(TinyTrunk(width=WIDTH).build(), 8, batch_size=32)
    build_trainer(MACHINE, root.parent, "auto", [WarmAfterOneBatch()]).fit(module, data)


def cluster(few: str, many: str) -> None:
    stage = Cluster(k=64, engine=FaissKMeans(iterations=5), runtime=MACHINE)
    for folder in map(Path, (few, many)):
        space, out = (Path(tempfile.mkdtemp(dir=folder)) for _ in range(2))
        Space(runtime=MACHINE).run(space, data=folder, features=folder)
        stage.run(out, data=folder, features=space)
        if folder == Path(few):
            warm()


if __name__ == "__main__":
    measured: dict[str, Callable[..., None]] = {"extract": extract, "train": train, "cluster": cluster}
    measured[sys.argv[1]](*sys.argv[2:])
