"""What is clustered: rows in a file, made or extracted, and how many clusters."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cf_lightning.clustering.base import Device
from cf_lightning.clustering.rows import Rows
from cf_lightning.data.manifest import ManifestImages
from cf_lightning.data.views import View
from cf_lightning.models.torchvision import TorchvisionTrunk
from cf_lightning.rows import open_rows
from cf_lightning.runtime import Runtime
from cf_lightning.stages.extract import Extract
from cf_lightning.stages.imported import ImportTrunk
from cf_lightning.stages.space import Space

Kind = Literal["iso", "feat"]

SIDE = 64  # pixels
REAL_K = 250  # 60 to 90 images for each cluster, as 16,000 clusters of ImageNet-1K have
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@dataclass(frozen=True)
class Problem:
    """Rows of a file to put into k clusters."""

    name: str
    rows: Rows
    k: int
    device: Device = "cpu"

    def __str__(self) -> str:
        return f"{self.name}, {len(self.rows):,} x {self.rows.dim}, k={self.k:,}"


def of_file(name: str, path: Path, k: int, device: Device = "cpu") -> Problem:
    features = open_rows(path)
    return Problem(name, Rows(features, np.arange(len(features))), k, device)


def synthetic(kind: Kind, path: Path, num_rows: int, dim: int, k: int, device: Device = "cpu") -> Problem:
    """A mixture of k Gaussians of standard deviation 1, whose centres have one of 0.6 in each dimension.

    ``iso`` leaves it at that, and all are equally large. ``feat`` resembles the features of networks: the
    variance of the i-th dimension is scaled by i^-0.4, then all are rotated at random; the size of the j-th
    cluster goes with j^-0.5.
    """
    rng = np.random.default_rng(0)
    centres = 0.6 * rng.standard_normal((k, dim), np.float32)
    share: np.ndarray = np.ones(k)
    mixing = None
    if kind == "feat":
        share = np.arange(1, k + 1) ** -0.5
        rotation, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
        mixing = (np.arange(1, dim + 1)[:, None] ** -0.2 * rotation).astype(np.float32)
    file = np.lib.format.open_memmap(path, "w+", np.float32, (num_rows, dim))
    for start in range(0, num_rows, 20_000):
        block = file[start : start + 20_000]
        members = rng.choice(k, len(block), p=share / share.sum())
        points = centres[members] + rng.standard_normal(block.shape, np.float32)
        block[:] = points if mixing is None else points @ mixing
    file.flush()
    return of_file(kind, path, k, device)


def real(folder: Path, pack: Path, manifest: str, weights: Path | None) -> Problem:
    """Features of a pack's images by a ResNet-50, as the pipeline makes and normalises them by default."""
    source = ManifestImages(root=str(pack), manifest=manifest, view=View(resize=SIDE, crop=SIDE))
    model, machine = TorchvisionTrunk(name="resnet50"), Runtime(accelerator="cpu", devices=1, progress=False)
    places = {name: folder / name for name in ("data", "trunk", "features", "space")}
    for place in places.values():
        place.mkdir()
    source.index().write(places["data"])
    trunk = {}
    if weights is not None:
        ImportTrunk(model=model, path=str(weights), mean=MEAN, std=STD).run(places["trunk"])
        trunk = {"trunk": places["trunk"]}
    extract = Extract(data=source, model=model, runtime=machine)
    extract.run(places["features"], data=places["data"], **trunk)
    Space(runtime=machine).run(places["space"], data=places["data"], features=places["features"])
    return of_file("real", places["space"] / "features.npy", REAL_K)
