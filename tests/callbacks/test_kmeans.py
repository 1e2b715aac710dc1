import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from pydantic import ValidationError
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from cf_lightning.callbacks.kmeans import KMeansCallback
from cf_lightning.clustering.faiss import FaissKMeans
from cf_lightning.errors import ConfigError, DataError, StoreError

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

ENGINE = FaissKMeans(iterations=10)


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


def predict(callback: KMeansCallback, loader: Any, **settings: Any) -> KMeansCallback:
    trainer = Trainer(
        accelerator="cpu", callbacks=[callback], logger=False, enable_progress_bar=False, **settings
    )
    trainer.predict(Identity(), loader, return_predictions=False)
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
    with pytest.raises(
        StoreError, match="140 of 300 rows are missing"
    ):  # those of the first loop do not count
        predict(callback, make_loader(blobs()), limit_predict_batches=5)


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


TWO_RANKS = """
import sys
import numpy as np
from lightning.pytorch.strategies import DDPStrategy
from test_kmeans import ENGINE, KMeansCallback, blobs, make_loader, predict

gloo = DDPStrategy(process_group_backend="gloo")
callback = predict(KMeansCallback(k=5, engine=ENGINE), make_loader(blobs(299)), devices=2, strategy=gloo)
np.save(f"{sys.argv[1]}/labels{gloo.global_rank}.npy", callback.labels_)
"""


@pytest.mark.slow
def test_two_ranks_collect_one_fits_and_both_know(tmp_path: Path) -> None:
    script = tmp_path / "two_ranks.py"
    script.write_text(TWO_RANKS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    paths = {"PYTHONPATH": ":".join([str(Path(__file__).parent), *sys.path]), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, str(script), str(tmp_path)], check=True, env={**os.environ, **paths}, timeout=300
    )
    np.save(tmp_path / "given.npy", blobs(299))
    alone = KMeansCallback(k=5, engine=ENGINE, features=tmp_path / "given.npy").fit()
    for rank in range(2):
        assert np.array_equal(np.load(tmp_path / f"labels{rank}.npy"), alone.labels_)
