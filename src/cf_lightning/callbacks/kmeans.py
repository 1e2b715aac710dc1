"""``KMeansCallback``: k-means on what ``predict_step`` returns, in any ``lightning.Trainer``."""

import tempfile
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from cf_lightning.callbacks.prediction import num_samples, predict_loader, predictions
from cf_lightning.callbacks.row_writer import RowWriter, unpack
from cf_lightning.clustering.assignment import Assignment
from cf_lightning.clustering.base import Device, Fit, KMeans
from cf_lightning.clustering.clusterer import Clusterer
from cf_lightning.clustering.faiss import FaissKMeans
from cf_lightning.clustering.space import FeatureSpace, Transform
from cf_lightning.clustering.watch import LiveWatch
from cf_lightning.errors import ConfigError, DataError
from cf_lightning.rows import open_rows, read_skipped
from cf_lightning.runtime import Runtime

T = TypeVar("T")


class KMeansCallback(Callback):
    """Clusters the features of a dataset.

    On a predict loop whose ``predict_step`` returns ``(index, features)`` (see ``RowWriter``) it
    collects them on disk, in any order and from any number of ranks, and clusters them at the end::

        kmeans = KMeansCallback(k=100, pca=256)
        Trainer(callbacks=[kmeans]).predict(module, loader, return_predictions=False)
        kmeans.labels_[i]  # the cluster of dataset[i]

    Given a features file it collects nothing::

        KMeansCallback(k=100, features="features.npy").fit().labels_

    With ``every_n_epochs`` it clusters in a fit (DeepCluster, Caron et al., ECCV 2018): before the first
    epoch and then every n epochs it sends what ``predict_dataloader()`` of the data module or of the
    module yields through ``predict_step``, in evaluation mode and without gradients. If the module has a
    method ``on_clusters(labels, centroids)``, it is then called on every rank with (N,) int64 and (K, D)
    float32 tensors on the CPU, to renew its targets and head; what it draws from torch's generator follows
    from seed and epoch, so that ranks agree. It is not called when a fit is resumed: a module that keeps
    the labels in a buffer finds them in its own checkpoint. ``training_step`` looks targets up by index, for
    the workers of a loader hold a copy of the dataset. Strategies that shard the module (FSDP) cannot do it.

    An engine of RANKS ``all`` uses every rank of the Trainer, another one global rank zero; every rank
    then has the result. With several ranks, preparing the features or a fit on rank zero that takes longer
    than the process group's timeout needs ``DDPStrategy(timeout=...)``. ``kmeans/inertia`` of each
    iteration goes to the Trainer's loggers (``kmeans_1/inertia`` if it is the second such callback); its step
    is ``current_epoch * engine.num_reports()`` plus the iteration's number.

    Args:
        k: number of clusters.
        engine: default ``FaissKMeans()``.
        seed: of the first centroids and of a subsample.
        pca: project to so many principal components of the fitted rows; default none.
        whiten: divide each component by its standard deviation.
        normalize: ``l2`` clusters features of norm 1, as VISSL's ClusterFit does.
        max_points_per_centroid: fit on at most k times as many rows; default all of them.
        fit_rows: (n,) int64, the rows to fit on; default all. Every row gets a label.
        features: (N, D) ``.npy`` file; rows that ``skipped.npy`` beside it names are left out.
        out: folder for the collected ``features.npy`` and the files of ``Assignment.save`` and
            ``Transform.save``; default none.
        every_n_epochs: cluster in a fit, every n epochs; default not.

    Attributes:
        centroids_: (K, D) float32, in the clustered space.
        labels_: (N,) int64, -1 where the sample could not be decoded.
        distances_: (N,) float32, squared, to the centroid; NaN where the label is -1.
        inertia_: sum of squared distances of the fitted rows.
        inertia_history_: the same at the beginning of each iteration.
        n_iter_: number of iterations.
        transform_: takes (n, D) float32 features to the clustered space.
    """

    centroids_: np.ndarray
    labels_: np.ndarray
    distances_: np.ndarray
    inertia_: float
    inertia_history_: list[float]
    n_iter_: int
    transform_: Transform

    def __init__(
        self,
        k: int,
        *,
        engine: KMeans | None = None,
        seed: int = 0,
        pca: int | None = None,
        whiten: bool = False,
        normalize: Literal["none", "l2"] = "l2",
        max_points_per_centroid: int | None = None,
        fit_rows: np.ndarray | None = None,
        features: str | Path | None = None,
        out: str | Path | None = None,
        every_n_epochs: int | None = None,
    ) -> None:
        if every_n_epochs is not None and (every_n_epochs < 1 or features is not None):
            wrong = "features=FILE never changes" if features is not None else "it is 1 or more"
            raise ConfigError(f"KMeansCallback(every_n_epochs={every_n_epochs}): {wrong}")
        self.clusterer = Clusterer(
            k=k,
            engine=engine or FaissKMeans(),
            space=FeatureSpace(pca=pca, whiten=whiten, normalize=normalize),
            max_points_per_centroid=max_points_per_centroid,
            seed=seed,
        )
        self.fit_rows, self.every_n_epochs = fit_rows, every_n_epochs
        self.features = None if features is None else Path(features)
        self.out = None if out is None else Path(out)
        self._epoch: int | None = None  # of the fit's last clustering
        self._writer: RowWriter | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @property
    def state_key(self) -> str:
        """Distinct unless two callbacks have the same settings."""
        return self._generate_state_key(clusterer=str(self.clusterer))

    def state_dict(self) -> dict[str, Any]:
        """The last clustering in tensors and plain values; before the first there is none."""
        if not hasattr(self, "labels_"):
            return {}
        clustering = {"centroids": self.centroids_, "labels": self.labels_, **vars(self.transform_)}
        arrays = {n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in clustering.items()}
        return {"epoch": self._epoch, **arrays}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the clustering of a checkpoint; the next one is due when it would have been."""
        state: dict[str, Any] = {n: v.numpy() if isinstance(v, Tensor) else v for n, v in state_dict.items()}
        self._epoch = state.pop("epoch")
        self.centroids_, self.labels_ = state.pop("centroids"), state.pop("labels")
        self.transform_ = Transform(**state)

    def fit(self, device: Device | None = None) -> Self:
        """Cluster the features file, without a Trainer; by default on a GPU if there is one."""
        if self.features is None:
            raise ConfigError("KMeansCallback.fit() needs features=FILE; without one, trainer.predict() fits")
        self._make_scratch()
        self._cluster(Fit(device or Runtime().device_kind()))
        return self

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the folder of the row files; what an earlier loop left there does not count."""
        self._begin(trainer, trainer.predict_dataloaders)

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
        if self.features is None:
            self._write(outputs)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cluster, and tell every rank."""
        self._end(trainer)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """A fit begins with a clustering, unless the checkpoint that is loaded after this brings one."""
        if stage == "fit":
            self._epoch = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cluster if it is due, and tell the module."""
        epoch = trainer.current_epoch
        if self.every_n_epochs is None:
            return
        if self._epoch is not None and epoch - self._epoch < self.every_n_epochs:
            return
        seed = self.clusterer.seed * 1_000_003 + epoch
        with isolate_rng():
            torch.manual_seed(seed)  # a loader that shuffles does so alike on every rank
            loader = predict_loader(trainer, pl_module)
            self._begin(trainer, loader)
            for outputs in predictions(trainer, pl_module, loader):
                self._write(outputs)
            self._end(trainer)
            self._epoch = epoch
            if on_clusters := getattr(pl_module, "on_clusters", None):
                torch.manual_seed(seed)  # an engine may have drawn on rank zero only
                on_clusters(torch.from_numpy(self.labels_), torch.from_numpy(self.centroids_))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave nothing behind in the temporary folder."""
        self._clean_up()

    def _begin(self, trainer: Trainer, loaders: Any) -> None:
        if self.features is None:
            self._num_rows = num_samples(loaders)
        self._make_scratch(trainer)
        self._writer = None

    def _make_scratch(self, trainer: Trainer | None = None) -> None:
        """Rank zero makes a temporary folder; features that are collected go there, or to ``out``."""
        folder = Path()
        if trainer is None or trainer.is_global_zero:
            if self.out is not None:
                self.out.mkdir(parents=True, exist_ok=True)
                for name in ("features.done", "mean.npy", "components.npy") if self.features is None else ():
                    (self.out / name).unlink(missing_ok=True)
            self._temporary = tempfile.TemporaryDirectory(prefix="kmeans_", dir=self.out)
            folder = Path(self._temporary.name)
        self._scratch = _broadcast(folder, trainer)
        self._file = self.features or (self.out or self._scratch) / "features.npy"

    def _clean_up(self) -> None:
        if self._temporary:
            self._temporary.cleanup()

    def _write(self, outputs: Any) -> None:
        index, features = unpack(outputs)
        if features.ndim == 3:  # (B, V, D): a video is the mean of its clips
            features = features.float().mean(1).to(features.dtype)
        if self._writer is None:
            dtype = np.float16 if features.dtype == torch.float16 else np.float32
            self._writer = RowWriter(self._file, (self._num_rows, features.shape[1]), dtype)
        self._writer.write(index, features)

    def _end(self, trainer: Trainer) -> None:
        if self._writer:
            self._writer.file.close()
        trainer.strategy.barrier()
        if self._writer and trainer.is_global_zero:
            self._writer.finish()
        trainer.strategy.barrier()  # skipped.npy is there for every rank
        device: Device = "cuda" if trainer.strategy.root_device.type == "cuda" else "cpu"
        if not trainer.is_global_zero:
            self._cluster(Fit(device), trainer)
            return
        watch = self._watch(trainer)
        try:
            self._cluster(Fit(device, watch=watch), trainer)
        finally:
            watch.close()

    def _watch(self, trainer: Trainer) -> LiveWatch:
        """What the Trainer shows and logs."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        number = [c for c in callbacks if isinstance(c, KMeansCallback)].index(self)
        return LiveWatch(
            iterations := self.clusterer.engine.num_reports(),
            trainer.loggers,
            show=trainer.progress_bar_callback is not None,
            metric=f"kmeans_{number}/inertia" if number else "kmeans/inertia",
            first_step=trainer.current_epoch * iterations,
        )

    def _cluster(self, job: Fit, trainer: Trainer | None = None) -> None:
        """Prepare the features on rank zero and cluster them; every rank then has the result."""
        is_first = trainer is None or trainer.is_global_zero
        features = open_rows(self._file)
        if features.ndim != 2:
            raise DataError(f"{self._file}: features are (N, D), not {features.shape}")
        rows = np.arange(len(features))
        has_skipped = (self._file.parent / "skipped.npy").exists()
        skipped = read_skipped(self._file.parent) if has_skipped else rows[:0]
        fit_rows = np.setdiff1d(rows if self.fit_rows is None else self.fit_rows, skipped)
        prepared = self._scratch / "space.npy"

        transform: Any = None
        assignment: Any = None
        if is_first:
            transform = self.clusterer.space.write(features, fit_rows, np.setdiff1d(rows, skipped), prepared)
        self.transform_ = _broadcast(transform, trainer)
        if is_first or self.clusterer.engine.RANKS == "all":
            assignment = self.clusterer.cluster(open_rows(prepared), fit_rows, skipped, job)
        if self.clusterer.engine.RANKS == "one":
            assignment = _broadcast(assignment, trainer)
        self._expose(assignment)
        if is_first and self.out is not None:
            assignment.save(self.out)
            self.transform_.save(self.out)
        self._clean_up()

    def _expose(self, assignment: Assignment) -> None:
        self.centroids_, self.labels_ = assignment.centroids, assignment.labels
        self.distances_ = assignment.distances
        self.inertia_ = assignment.inertia_of(assignment.used)
        self.inertia_history_, self.n_iter_ = assignment.inertia, len(assignment.inertia)


def _broadcast(value: T, trainer: Trainer | None) -> T:
    """What rank zero has."""
    return value if trainer is None else trainer.strategy.broadcast(value)
