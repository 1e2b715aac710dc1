import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, TensorDataset

from cf_lightning.callbacks.kmeans import KMeansCallback
from cf_lightning.callbacks.prediction import _share
from cf_lightning.callbacks.training_checkpoint import TrainingCheckpoint
from cf_lightning.clustering.faiss import FaissKMeans
from cf_lightning.clustering.lloyd import LloydKMeans
from cf_lightning.errors import ConfigError, DataError, StoreError

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:.*{words}")
    for words in ("does not have many workers", "in eval mode at the start", "logging interval", "treespec")
]

ENGINE = FaissKMeans(iterations=10)
LLOYD = LloydKMeans(iterations=10)


def blobs(num_rows: int = 300) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((5, 8)) * 3
    points = centres[np.arange(num_rows) % 5] + rng.standard_normal((num_rows, 8)) * 0.5
    return points.astype(np.float32)


class Identity(LightningModule):
    def predict_step(
        self, batch: list[torch.Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        index, features = batch
        return index, features


def make_trainer(*callbacks: Callback, **settings: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    checkpoints = any(isinstance(callback, TrainingCheckpoint) for callback in callbacks)
    return Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        enable_checkpointing=checkpoints,
        **{**quiet, **settings},
    )


def predict(callback: KMeansCallback, loader: Any, **settings: Any) -> KMeansCallback:
    make_trainer(callback, **settings).predict(Identity(), loader, return_predictions=False)
    return callback


def make_loader(features: np.ndarray, index: torch.Tensor | None = None, **settings: Any) -> DataLoader[Any]:
    rows = torch.arange(len(features)) if index is None else index
    dataset: Dataset[Any] = TensorDataset(rows, torch.from_numpy(features))
    return DataLoader(dataset, batch_size=32, **settings)


@pytest.fixture
def from_file(tmp_path: Path) -> KMeansCallback:
    np.save(tmp_path / "given.npy", blobs())
    return KMeansCallback(k=5, engine=ENGINE, features=tmp_path / "given.npy").fit()


def test_finds_the_blobs_of_a_file_without_a_trainer(from_file: KMeansCallback) -> None:
    assert (from_file.centroids_.shape, from_file.centroids_.dtype) == ((5, 8), np.float32)
    assert (from_file.labels_.shape, from_file.labels_.dtype) == ((300,), np.int64)
    assert from_file.n_iter_ == len(from_file.inertia_history_) == 10
    assert from_file.inertia_ == pytest.approx(from_file.distances_.sum(), rel=1e-5)
    assert from_file.inertia_ <= from_file.inertia_history_[0]


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_predict_loop_gives_what_the_file_gives(from_file: KMeansCallback, shuffle: bool) -> None:
    callback = predict(KMeansCallback(k=5, engine=ENGINE), make_loader(blobs(), shuffle=shuffle))
    assert callback.centroids_.tobytes() == from_file.centroids_.tobytes()
    assert np.array_equal(callback.labels_, from_file.labels_)
    assert np.array_equal(callback.distances_, from_file.distances_)
    assert callback.inertia_ == from_file.inertia_


def test_given_a_file_it_collects_nothing(from_file: KMeansCallback, tmp_path: Path) -> None:
    other = make_loader(np.random.default_rng(1).standard_normal((40, 8)).astype(np.float32))
    callback = predict(KMeansCallback(k=5, engine=ENGINE, features=tmp_path / "given.npy"), other)
    assert np.array_equal(callback.labels_, from_file.labels_)
    assert [file.name for file in tmp_path.iterdir()] == ["given.npy"]


def test_out_keeps_features_and_results_and_can_be_used_again(tmp_path: Path) -> None:
    callback = KMeansCallback(k=5, engine=ENGINE, out=tmp_path / "kept")
    predict(callback, make_loader(blobs()))
    assert np.array_equal(np.load(tmp_path / "kept" / "features.npy"), blobs())
    assert np.array_equal(np.load(tmp_path / "kept" / "labels.npy"), callback.labels_)
    assert np.array_equal(np.load(tmp_path / "kept" / "centroids.npy"), callback.centroids_)
    assert not list((tmp_path / "kept").glob("kmeans_*"))  # the prepared features are gone
    with pytest.raises(
        StoreError, match="140 of 300 rows are missing"
    ):  # those of the first loop do not count
        predict(callback, make_loader(blobs()), limit_predict_batches=5)


def test_projected_features_are_clustered_and_the_projection_is_kept(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"k": 5, "engine": ENGINE, "pca": 3, "whiten": True, "normalize": "none"}
    callback = predict(KMeansCallback(**settings, out=tmp_path), make_loader(blobs()))
    rows = callback.transform_(blobs())
    assert np.allclose(rows.std(axis=0), 1, atol=1e-4)
    distances = np.square(rows[:, None] - callback.centroids_).sum(axis=2)
    assert np.array_equal(callback.labels_, distances.argmin(axis=1))
    assert callback.transform_.components is not None
    assert np.array_equal(np.load(tmp_path / "components.npy"), callback.transform_.components)
    again = KMeansCallback(**settings, features=tmp_path / "features.npy").fit()
    assert again.centroids_.tobytes() == callback.centroids_.tobytes()
    predict(KMeansCallback(k=5, engine=ENGINE, out=tmp_path), make_loader(blobs()))
    assert not (tmp_path / "components.npy").exists()  # it is not that of the new centroids


def test_half_precision_predictions_are_kept_as_such(tmp_path: Path) -> None:
    predict(KMeansCallback(k=5, out=tmp_path), make_loader(blobs().astype(np.float16)))
    assert np.load(tmp_path / "features.npy").dtype == np.float16


def test_samples_that_could_not_be_decoded_have_no_label(from_file: KMeansCallback, tmp_path: Path) -> None:
    index = torch.arange(300)
    index[[7, 250]] = ~index[[7, 250]]
    callback = KMeansCallback(k=5, engine=ENGINE, out=tmp_path / "kept")
    predict(callback, make_loader(blobs(), index))
    assert np.flatnonzero(callback.labels_ == -1).tolist() == [7, 250]
    assert np.flatnonzero(np.isnan(callback.distances_)).tolist() == [7, 250]
    again = KMeansCallback(k=5, engine=ENGINE, features=tmp_path / "kept" / "features.npy").fit()
    assert np.array_equal(again.labels_, callback.labels_)
    assert not np.array_equal(callback.labels_, from_file.labels_)


def test_fits_on_the_rows_it_is_told_and_labels_every_row(tmp_path: Path) -> None:
    features = blobs()
    features[200:] *= -1
    np.save(tmp_path / "given.npy", features)
    callback = KMeansCallback(
        k=5, engine=ENGINE, features=tmp_path / "given.npy", fit_rows=np.arange(200)
    ).fit()
    np.save(tmp_path / "given.npy", features[:200])
    alone = KMeansCallback(k=5, engine=ENGINE, features=tmp_path / "given.npy").fit()
    assert callback.centroids_.tobytes() == alone.centroids_.tobytes()
    assert callback.labels_.min() >= 0
    assert callback.inertia_ == alone.inertia_


def test_what_cannot_work_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        KMeansCallback(k=0)
    with pytest.raises(ConfigError, match=r"every_n_epochs=0\): it is 1 or more"):
        KMeansCallback(k=5, every_n_epochs=0)
    with pytest.raises(ConfigError, match="features=FILE never changes"):
        KMeansCallback(k=5, every_n_epochs=1, features="features.npy")
    with pytest.raises(ConfigError, match="neither Toy nor a data module has one"):
        make_trainer(KMeansCallback(k=5, every_n_epochs=1), max_epochs=1).fit(Toy(), make_loader(blobs(90)))
    with pytest.raises(DataError, match="set its batch_size"):
        _share(DataLoader(TensorDataset(torch.zeros(4)), batch_size=None), 0, 2)
    with pytest.raises(ConfigError, match="needs features=FILE"):
        KMeansCallback(k=5).fit()
    with pytest.raises(StoreError, match=r"none\.npy is missing"):
        KMeansCallback(k=5, features=tmp_path / "none.npy").fit()
    np.save(tmp_path / "flat.npy", np.zeros(5))
    with pytest.raises(DataError, match=r"features are \(N, D\)"):
        KMeansCallback(k=5, features=tmp_path / "flat.npy").fit()
    with pytest.raises(ConfigError, match="k=301: there are 300 rows to fit on"):
        predict(KMeansCallback(k=301), make_loader(blobs()))


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield from ((torch.tensor(row), torch.ones(8)) for row in range(10))


def test_a_dataset_without_a_length_or_several_loaders_are_refused() -> None:
    for loaders in (DataLoader(Stream(), batch_size=2), [make_loader(blobs()), make_loader(blobs())]):
        with pytest.raises(DataError, match="one dataloader, whose dataset has a length"):
            predict(KMeansCallback(k=5), loaders)


def inertia_logged(folder: Path, name: str = "kmeans/inertia") -> list[tuple[int, float]]:
    rows = csv.DictReader(next(folder.rglob("metrics.csv")).read_text().splitlines())
    return [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]


def numbered(inertia: list[float], first: int = 1) -> list[tuple[int, Any]]:
    return [(step, pytest.approx(value)) for step, value in enumerate(inertia, first)]


def test_two_callbacks_of_one_trainer_are_told_apart_in_every_logger(tmp_path: Path) -> None:
    loggers = [CSVLogger(tmp_path / "a"), CSVLogger(tmp_path / "b")]
    few, many = KMeansCallback(k=3, engine=ENGINE), KMeansCallback(k=5, engine=ENGINE)
    make_trainer(few, many, logger=loggers).predict(
        Identity(), make_loader(blobs()), return_predictions=False
    )
    assert (len(few.centroids_), len(many.centroids_)) == (3, 5)
    for logger in ("a", "b"):
        assert inertia_logged(tmp_path / logger) == numbered(few.inertia_history_)
        assert inertia_logged(tmp_path / logger, "kmeans_1/inertia") == numbered(many.inertia_history_)
    keys = {
        few.state_key,
        many.state_key,
        KMeansCallback(k=3).state_key,
        KMeansCallback(k=3, pca=2).state_key,
    }
    assert len(keys) == 4


def test_the_progress_bar_is_shown_where_the_trainer_has_one(capsys: pytest.CaptureFixture[str]) -> None:
    predict(KMeansCallback(k=5, engine=ENGINE), make_loader(blobs()))
    assert capsys.readouterr().out == ""
    predict(KMeansCallback(k=5, engine=ENGINE), make_loader(blobs()), enable_progress_bar=True)
    assert re.search("k-means 100%.*10/10, inertia", capsys.readouterr().out)


class Toy(LightningModule):
    """Learns the clusters of its own features; it notes what it is told and in which mode its steps run."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.trunk, self.head = nn.Linear(8, 6), nn.Linear(6, 5)
        self.frozen = nn.BatchNorm1d(8).eval()
        self.register_buffer("labels", torch.full((90,), -1))
        self.told: list[tuple[int, Tensor, Tensor]] = []
        self.modes: set[tuple[bool, ...]] = set()

    def forward(self, points: Tensor) -> Tensor:
        features: Tensor = self.trunk(self.frozen(points)).tanh()
        return features

    def note_mode(self) -> None:
        training = (self.training, self.trunk.training, self.frozen.training)
        self.modes.add((self.trainer.predicting, torch.is_grad_enabled(), *training))

    def predict_step(self, batch: list[Tensor]) -> tuple[Tensor, Tensor]:
        self.note_mode()
        return batch[0], self(batch[1])

    def on_clusters(self, labels: Tensor, centroids: Tensor) -> None:
        assert isinstance(self.labels, Tensor)
        self.told.append((self.current_epoch, labels.clone(), centroids.clone()))
        self.labels.copy_(labels)
        self.head.reset_parameters()

    def training_step(self, batch: list[Tensor]) -> Tensor:
        self.note_mode()
        assert isinstance(self.labels, Tensor)
        return nn.functional.cross_entropy(self.head(self(batch[1])), self.labels[batch[0]])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.9)


class Points(LightningDataModule):
    def predict_dataloader(self) -> DataLoader[Any]:
        return make_loader(blobs(90), shuffle=True)  # whatever the order, rows are rows

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer
        dataset, ranks = make_loader(blobs(90)).dataset, self.trainer.world_size
        sampler: DistributedSampler[Any] = DistributedSampler(
            dataset, ranks, self.trainer.global_rank, shuffle=False
        )
        return DataLoader(dataset, batch_size=30 // ranks, sampler=sampler)


class Known(Toy):
    """Brings its own predict loader, and features that are others in every epoch."""

    def features(self, epoch: int) -> np.ndarray:
        return np.roll(blobs(90), epoch, axis=1)[np.random.default_rng(epoch).permutation(90)]

    def predict_step(self, batch: list[Tensor]) -> tuple[Tensor, Tensor]:
        return batch[0], torch.from_numpy(self.features(self.current_epoch))[batch[0]]

    def predict_dataloader(self) -> DataLoader[Any]:
        return make_loader(blobs(90))


def deep_cluster(
    epochs: int, every: int, *more: Callback, ckpt: str | None = None, **settings: Any
) -> tuple[Toy, KMeansCallback]:
    callback, module = KMeansCallback(k=5, engine=LLOYD, pca=4, every_n_epochs=every), Toy()
    trainer = make_trainer(callback, *more, max_epochs=epochs, **settings)
    trainer.fit(module, datamodule=Points(), ckpt_path=ckpt)
    return module, callback


def test_a_fit_clusters_what_the_features_are_then(tmp_path: Path) -> None:
    module, logger = Known(), CSVLogger(tmp_path / "log")
    callback = KMeansCallback(k=5, engine=ENGINE, every_n_epochs=2)
    make_trainer(callback, max_epochs=5, logger=logger).fit(module, make_loader(blobs(90)))
    assert [epoch for epoch, _, _ in module.told] == [0, 2, 4]
    for epoch, labels, centroids in module.told:
        np.save(tmp_path / "given.npy", module.features(epoch))
        expected = KMeansCallback(k=5, engine=ENGINE, features=tmp_path / "given.npy").fit()
        assert np.array_equal(labels.numpy(), expected.labels_)
        assert np.array_equal(centroids.numpy(), expected.centroids_)
        steps = inertia_logged(tmp_path / "log")[epoch * 5 :][:10]
        assert steps == numbered(expected.inertia_history_, first=epoch * 10 + 1)
    assert np.array_equal(callback.labels_, module.told[-1][1].numpy())
    assert not np.array_equal(module.told[0][1], module.told[1][1])


class RandomState(Callback):
    def __init__(self) -> None:
        self.states: list[Tensor] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.states.append(torch.get_rng_state())


def test_a_clustering_leaves_the_training_as_it_was() -> None:
    before, after, module = RandomState(), RandomState(), Toy()
    callback = KMeansCallback(k=5, engine=LLOYD, every_n_epochs=1)
    make_trainer(before, callback, after, max_epochs=2).fit(module, datamodule=Points())
    #                  predicting, gradients, module, trunk, frozen batch norm
    assert module.modes == {(True, False, False, False, False), (False, True, True, True, False)}
    assert len(before.states) == 2
    assert all(torch.equal(a, b) for a, b in zip(before.states, after.states, strict=True))


@pytest.mark.parametrize("epochs_before", [1, 2, 3])
def test_a_resumed_fit_equals_an_undisturbed_one(tmp_path: Path, epochs_before: int) -> None:
    whole, kmeans = deep_cluster(4, 2)
    _, begun = deep_cluster(epochs_before, 2, TrainingCheckpoint(tmp_path))
    file = tmp_path / "resume.ckpt"
    state = torch.load(file, weights_only=True)["callbacks"][begun.state_key]
    assert np.array_equal(state["labels"].numpy(), begun.labels_)
    assert np.array_equal(state["centroids"].numpy(), begun.centroids_)
    assert state["epoch"] == (2 if epochs_before == 3 else 0)

    continued, resumed = deep_cluster(4, 2, TrainingCheckpoint(tmp_path), ckpt=str(file))
    assert [epoch for epoch, _, _ in continued.told] == ([] if epochs_before == 3 else [2])
    for name, value in whole.state_dict().items():
        assert torch.equal(value, continued.state_dict()[name]), name
    assert np.array_equal(resumed.labels_, kmeans.labels_)
    assert np.array_equal(resumed.centroids_, kmeans.centroids_)
    assert np.array_equal(resumed.transform_(blobs()[:, :6]), kmeans.transform_(blobs()[:, :6]))


def test_another_fit_begins_with_a_clustering() -> None:
    module, callback = deep_cluster(1, 2)
    again = Toy()
    make_trainer(callback, max_epochs=1).fit(again, datamodule=Points())
    assert [epoch for epoch, _, _ in again.told] == [0]
    assert np.array_equal(again.told[0][1], module.told[0][1])


def test_the_example_of_the_readme_runs(
    tmp_path: Path, image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (example, *_) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    image_folder(per_class=24, name="pictures")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["kmeans"].centroids_.shape == (3, 512)
    assert names["kmeans"].labels_.shape == (72,)
    assert names["again"].centroids_.shape == (3, 8)
    assert np.array_equal(names["model"].clusters.numpy(), names["again"].labels_)
    assert names["model"].trainer.global_step == 2


TWO_RANKS = """
import sys
import numpy as np
import torch
from lightning.pytorch.strategies import DDPStrategy
from test_kmeans import ENGINE, LLOYD, KMeansCallback, blobs, deep_cluster, make_loader, predict

from cf_lightning.worker import leave

found = {}
for name, engine in (("one", ENGINE), ("all", LLOYD)):
    gloo = DDPStrategy(process_group_backend="gloo")
    callback = KMeansCallback(k=5, engine=engine, pca=4)
    found[name] = predict(callback, make_loader(blobs(299)), devices=2, strategy=gloo).labels_
gloo = DDPStrategy(process_group_backend="gloo")
module, _ = deep_cluster(2, 1, devices=2, strategy=gloo)
np.savez(f"{sys.argv[1]}/{gloo.global_rank}.npz", **found)
torch.save([module.told, module.state_dict()], f"{sys.argv[1]}/{gloo.global_rank}.pt")
leave()
"""


@pytest.mark.slow
def test_two_ranks_find_what_one_finds_and_both_know(tmp_path: Path) -> None:
    script = tmp_path / "two_ranks.py"
    script.write_text(TWO_RANKS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    paths = {"PYTHONPATH": ":".join([str(Path(__file__).parent), *sys.path]), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, str(script), str(tmp_path)], check=True, env={**os.environ, **paths}, timeout=300
    )
    np.save(tmp_path / "given.npy", blobs(299))
    module, _ = deep_cluster(2, 1)
    weights = []
    for rank in range(2):
        for name, engine in (("one", ENGINE), ("all", LLOYD)):
            alone = KMeansCallback(k=5, engine=engine, pca=4, features=tmp_path / "given.npy").fit()
            assert np.array_equal(np.load(tmp_path / f"{rank}.npz")[name], alone.labels_)
        told, state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert [epoch for epoch, _, _ in told] == [0, 1]
        assert torch.equal(told[0][2], module.told[0][2])  # same weights, same batches: same bits
        for mine, alone_ in zip(told, module.told, strict=True):
            assert torch.equal(mine[1], alone_[1])
        weights.append(state)
    for name, value in module.state_dict().items():
        assert torch.equal(weights[0][name], weights[1][name]), name
        assert torch.allclose(weights[0][name], value, atol=1e-5), name
