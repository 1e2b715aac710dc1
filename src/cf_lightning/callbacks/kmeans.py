"""``KMeansCallback``: k-means on what a predict loop returns, in any ``lightning.Trainer``."""

import tempfile
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cf_lightning.callbacks.row_writer import RowWriter, unpack
from cf_lightning.clustering.assignment import Assignment
from cf_lightning.clustering.base import Device, KMeans
from cf_lightning.clustering.clusterer import Clusterer
from cf_lightning.clustering.faiss import FaissKMeans
from cf_lightning.errors import ConfigError, DataError
from cf_lightning.rows import open_rows, read_skipped
from cf_lightning.runtime import Runtime


class KMeansCallback(Callback):
    """Clusters the features of a dataset.

    On a predict loop whose ``predict_step`` returns ``(index, features)`` (see ``RowWriter``) it
    collects them on disk, in any order and from any number of ranks, and clusters them at the end::

        kmeans = KMeansCallback(k=100)
        Trainer(callbacks=[kmeans]).predict(module, loader, return_predictions=False)
        kmeans.labels_[i]  # the cluster of dataset[i]

    Given a features file it collects nothing::

        KMeansCallback(k=100, features="features.npy").fit().labels_

    Global rank zero computes; every rank then has the result. With several ranks, a fit that takes
    longer than the process group's timeout needs ``DDPStrategy(timeout=...)``.

    Args:
        k: number of clusters.
        engine: default ``FaissKMeans()``.
        seed: of the first centroids and of a subsample.
        normalize: ``l2`` clusters features of norm 1, as VISSL's ClusterFit does.
        max_points_per_centroid: fit on at most k times as many rows; default all of them.
        fit_rows: (n,) int64, the rows to fit on; default all. Every row gets a label.
        features: (N, D) ``.npy`` file; rows that ``skipped.npy`` beside it names are left out.
        out: folder for the collected ``features.npy`` and the files of ``Assignment.save``; default none.

    Attributes:
        centroids_: (K, D) float32, in the clustered space.
        labels_: (N,) int64, -1 where the sample could not be decoded.
        distances_: (N,) float32, squared, to the centroid; NaN where the label is -1.
        inertia_: sum of squared distances of the fitted rows.
        inertia_history_: the same at the beginning of each iteration.
        n_iter_: number of iterations.
    """

    centroids_: np.ndarray
    labels_: np.ndarray
    distances_: np.ndarray
    inertia_: float
    inertia_history_: list[float]
    n_iter_: int

    def __init__(
        self,
        k: int,
        *,
        engine: KMeans | None = None,
        seed: int = 0,
        normalize: Literal["none", "l2"] = "l2",
        max_points_per_centroid: int | None = None,
        fit_rows: np.ndarray | None = None,
        features: str | Path | None = None,
        out: str | Path | None = None,
    ) -> None:
        self.clusterer = Clusterer(
            k=k,
            engine=engine or FaissKMeans(),
            seed=seed,
            normalize=normalize,
            max_points_per_centroid=max_points_per_centroid,
        )
        self.fit_rows = fit_rows
        self.features = None if features is None else Path(features)
        self.out = None if out is None else Path(out)
        self._writer: RowWriter | None = None

    def fit(self, device: Device | None = None) -> Self:
        """Cluster the features file, without a Trainer; by default on a GPU if there is one."""
        if self.features is None:
            raise ConfigError("KMeansCallback.fit() needs features=FILE; without one, trainer.predict() fits")
        self._expose(self._cluster(self.features, device or Runtime().device_kind()))
        return self

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the folder of the row file; what an earlier loop left there does not count."""
        if self.features is None:
            self._num_rows = _num_samples(trainer)
            folder = self._begin() if trainer.is_global_zero else Path()
            self._folder = trainer.strategy.broadcast(folder)
            self._writer = None

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write one batch of features."""
        if self.features is not None:
            return
        index, features = unpack(outputs)
        if self._writer is None:
            dtype = np.float16 if features.dtype == torch.float16 else np.float32
            shape = (self._num_rows, features.shape[1])
            self._writer = RowWriter(self._folder / "features.npy", shape, dtype)
        self._writer.write(index, features)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cluster on global rank zero and tell the others."""
        if self._writer:
            self._writer.on_predict_end(trainer, pl_module)
        trainer.strategy.barrier()
        assignment = None
        if trainer.is_global_zero:
            if self._writer:
                self._writer.finish()
            device: Device = "cuda" if trainer.strategy.root_device.type == "cuda" else "cpu"
            assignment = self._cluster(self.features or self._folder / "features.npy", device)
        if assignment := trainer.strategy.broadcast(assignment):
            self._expose(assignment)

    def _begin(self) -> Path:
        if self.out is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="kmeans_")  # removed with this object
            return Path(self._temporary.name)
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "features.done").unlink(missing_ok=True)
        return self.out

    def _cluster(self, path: Path, device: Device) -> Assignment:
        features = open_rows(path)
        if features.ndim != 2:
            raise DataError(f"{path}: features are (N, D), not {features.shape}")
        has_skipped = (path.parent / "skipped.npy").exists()
        assignment = self.clusterer.cluster(
            features,
            fit_rows=np.arange(len(features)) if self.fit_rows is None else self.fit_rows,
            skipped=read_skipped(path.parent) if has_skipped else np.empty(0, np.int64),
            device=device,
        )
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            assignment.save(self.out)
        return assignment

    def _expose(self, assignment: Assignment) -> None:
        self.centroids_, self.labels_ = assignment.centroids, assignment.labels
        self.distances_ = assignment.distances
        self.inertia_ = assignment.inertia_of(assignment.used)
        self.inertia_history_, self.n_iter_ = assignment.inertia, len(assignment.inertia)


def _num_samples(trainer: Trainer) -> int:
    """N, from the one predict dataloader's dataset."""
    loaders: Any = trainer.predict_dataloaders
    if isinstance(loaders, list | tuple) and len(loaders) == 1:
        loaders = loaders[0]
    try:
        return len(loaders.dataset)
    except (AttributeError, TypeError):
        raise DataError("KMeansCallback needs one dataloader, whose dataset has a length") from None
