import csv
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from cf_lightning.clustering import clusterer
from cf_lightning.clustering.assignment import Assignment
from cf_lightning.clustering.clusterer import Clusterer
from cf_lightning.clustering.faiss import FaissKMeans
from cf_lightning.clustering.space import FeatureSpace
from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError, DataError, StoreError
from cf_lightning.rows import describe_rows
from cf_lightning.runtime import Runtime
from cf_lightning.stages.cluster import Cluster

NONE = np.empty(0, np.int64)


def blobs(num_rows: int = 500, dim: int = 8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((6, dim)) * 3
    points = centres[rng.integers(6, size=num_rows)] + rng.standard_normal((num_rows, dim))
    return points.astype(np.float32)


def cluster(
    features: np.ndarray, fit_rows: np.ndarray | None = None, skipped: np.ndarray = NONE, **settings: Any
) -> Assignment:
    settings = {"k": 6, "engine": FaissKMeans(iterations=10), **settings}
    rows = np.arange(len(features)) if fit_rows is None else fit_rows
    return Clusterer(**settings).cluster(features, rows, skipped, "cpu")


def nearest(points: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    squared = ((points[:, None].astype(np.float64) - centroids[None]) ** 2).sum(axis=2)
    return squared.argmin(axis=1), squared.min(axis=1)


@pytest.mark.parametrize("normalize", ["none", "l2"])
def test_every_row_gets_the_nearest_centroid(normalize: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FeatureSpace, "CHUNK_BYTES", 4 * 8 * 37)  # chunks of 37 rows
    features = blobs()
    found = cluster(features, normalize=normalize)
    points = features if normalize == "none" else features / np.linalg.norm(features, axis=1, keepdims=True)
    labels, distances = nearest(points, found.centroids)
    assert np.array_equal(found.labels, labels)
    assert found.distances == pytest.approx(distances, rel=1e-3, abs=1e-5)
    assert found.inertia_of(found.used) == pytest.approx(distances.sum(), rel=1e-4)
    assert found.inertia_of(found.used) <= found.inertia[-1] * (1 + 1e-5)


def test_the_size_of_chunks_does_not_change_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cluster(blobs())
    monkeypatch.setattr(FeatureSpace, "CHUNK_BYTES", 4 * 8 * 50)
    chunked = cluster(blobs())
    assert np.array_equal(whole.labels, chunked.labels)
    assert np.array_equal(whole.centroids, chunked.centroids)


def test_scale_does_not_matter_on_the_unit_sphere() -> None:
    features = blobs()
    scales = np.random.default_rng(1).uniform(0.5, 2, (len(features), 1)).astype(np.float32)
    for engine in (FaissKMeans(iterations=5), FaissKMeans(iterations=5, spherical=True)):
        plain, scaled = cluster(features, engine=engine), cluster(features * scales, engine=engine)
        assert np.array_equal(plain.labels, scaled.labels)
    assert np.linalg.norm(scaled.centroids, axis=1) == pytest.approx(np.ones(6), abs=1e-5)


def test_float16_and_float32_files_agree(tmp_path: Path) -> None:
    features = blobs().astype(np.float16)
    np.save(tmp_path / "half.npy", features)
    half = np.load(tmp_path / "half.npy", mmap_mode="r")
    single = features.astype(np.float32)
    before = features.tobytes()
    from_half, from_single = cluster(half), cluster(single)
    assert np.array_equal(from_half.labels, from_single.labels)
    assert from_half.centroids.tobytes() == from_single.centroids.tobytes()
    assert np.array_equal(np.load(tmp_path / "half.npy").tobytes(), before)
    assert np.array_equal(single, features.astype(np.float32))  # normalising touches a copy


def test_fits_only_on_the_rows_it_is_given() -> None:
    features = blobs()
    features[400:] = 1000
    found = cluster(features, fit_rows=np.arange(400), normalize="none")
    alone = cluster(features[:400], normalize="none")
    assert found.centroids.tobytes() == alone.centroids.tobytes()
    assert np.array_equal(found.labels[:400], alone.labels)
    assert found.labels[400:].min() >= 0
    assert found.facts()["points_available"] == 400


def test_skipped_rows_have_no_label_and_no_say() -> None:
    features = blobs()
    skipped = np.array([3, 77, 499])
    features[skipped] = 0
    found = cluster(features, skipped=skipped)
    assert np.flatnonzero(found.labels == -1).tolist() == [3, 77, 499]
    assert np.flatnonzero(np.isnan(found.distances)).tolist() == [3, 77, 499]
    kept = np.delete(np.arange(500), skipped)
    assert np.array_equal(found.available, kept)
    assert found.centroids.tobytes() == cluster(features[kept]).centroids.tobytes()


def test_a_subsample_is_asked_for_announced_exact_and_seeded(caplog: pytest.LogCaptureFixture) -> None:
    features = blobs()
    with caplog.at_level(logging.WARNING):
        cluster(features, max_points_per_centroid=1000)
    assert not caplog.records
    found = cluster(features, max_points_per_centroid=10)
    assert "random 60 of 500 rows (max_points_per_centroid=10, k=6)" in caplog.text
    assert len(np.unique(found.used)) == 60
    assert (np.diff(found.used) > 0).all()
    facts = found.facts()
    assert (facts["points_used"], facts["points_available"]) == (60, 500)
    assert facts["inertia_train_sample"] < facts["inertia_all"]
    alone = cluster(features[found.used])
    assert alone.centroids.tobytes() == found.centroids.tobytes()
    assert np.array_equal(cluster(features, max_points_per_centroid=10).used, found.used)
    assert not np.array_equal(cluster(features, max_points_per_centroid=10, seed=1).used, found.used)


def test_facts_count_empty_and_largest_clusters() -> None:
    labels = np.array([0, 0, 0, 2, -1])
    distances = np.array([1, 2, 3, 4, np.nan], np.float32)
    rows = np.arange(4)
    found = Assignment(np.zeros((4, 2), np.float32), labels, distances, [12.0], rows, rows[:2])
    assert found.facts() == {
        "k": 4,
        "inertia_train_sample": 3,
        "inertia_all": 10,
        "empty": 2,
        "largest_share": 0.75,
        "points_used": 2,
        "points_available": 4,
    }


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_named_before_the_fit(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FaissKMeans, "fit", lambda *_: pytest.fail("it was fitted"))
    features = blobs()
    features[[17, 450], 3] = value
    with pytest.raises(DataError, match=r"2 rows \(17, 450\) hold NaN or Inf"):
        cluster(features, fit_rows=np.arange(400))


def test_rows_of_zeros_cannot_be_normalised(tmp_path: Path) -> None:
    features = blobs()
    features[5:15] = 0
    np.save(tmp_path / "f.npy", features)
    with pytest.raises(
        DataError, match=r"f\.npy: 10 rows \(5, 6, 7, 8, 9, \.\.\.\) are all zeros.*normalize=none"
    ):
        cluster(np.load(tmp_path / "f.npy", mmap_mode="r"))
    assert cluster(features, normalize="none").labels.min() >= 0


def test_more_clusters_than_rows() -> None:
    with pytest.raises(ConfigError, match="k=10: there are 9 rows to fit on"):
        cluster(blobs(12), k=10, fit_rows=np.arange(10), skipped=np.array([2]))


def test_too_little_memory_is_said_before_the_rows_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusterer, "_free_memory", lambda: 4 * 8 * 6 * 30)
    with pytest.raises(ConfigError, match=r"500 rows to fit on .* set max_points_per_centroid=30 or less"):
        cluster(blobs())
    assert len(cluster(blobs(), max_points_per_centroid=30).used) == 180


def test_free_memory_is_a_plausible_number() -> None:
    free = clusterer._free_memory()
    assert free is None or 2**20 < free < 2**50


def test_settings_that_contradict_or_leave_their_range() -> None:
    engine = FaissKMeans(spherical=True)
    with pytest.raises(ValidationError, match=r"engine\.spherical=true clusters directions"):
        Clusterer(k=2, engine=engine, normalize="none")
    for wrong in ({"k": 0}, {"seed": -1}, {"max_points_per_centroid": 0}, {"normalize": "L2"}):
        with pytest.raises(ValidationError):
            Clusterer.model_validate({"k": 2, "engine": FaissKMeans(), **wrong})


def make_inputs(
    tmp_path: Path, num_rows: int = 300, skipped: tuple[int, ...] = (4,)
) -> tuple[dict[str, Path], Index]:
    """A features artifact and an index; every fifth row is val."""
    empty: dict[str, list[Any]] = {name: [None] * num_rows for name in ("size", "crc", "shard", "offset")}
    lists: dict[str, list[Any]] = {name: [[]] * num_rows for name in ("labels", "tags")}
    split = ["val" if row % 5 == 0 else "train" for row in range(num_rows)]
    index = Index(
        pa.table({"key": [f"{row}" for row in range(num_rows)], "split": split, **lists, **empty}), "here"
    )
    inputs = {"features": tmp_path / "features", "data": tmp_path / "data", "out": tmp_path / "out"}
    for folder in inputs.values():
        folder.mkdir()
    index.write(inputs["data"])
    features = blobs(num_rows).astype(np.float16)
    features[list(skipped)] = 0
    np.save(inputs["features"] / "features.npy", features)
    np.save(inputs["features"] / "skipped.npy", np.array(skipped, np.int64))
    describe_rows(inputs["features"], "features", index)
    return inputs, index


def make_stage(k: int = 6, **settings: Any) -> Cluster:
    return Cluster(k=k, engine=FaissKMeans(iterations=5), runtime=Runtime(accelerator="cpu"), **settings)


def test_the_stage_writes_labels_of_its_index(tmp_path: Path) -> None:
    inputs, index = make_inputs(tmp_path)
    out = inputs["out"]
    (out / "labels.npy").write_bytes(b"half a file of a killed attempt")
    make_stage().run(**inputs)
    labels, distances = np.load(out / "labels.npy"), np.load(out / "distances.npy")
    assert (labels.shape, labels.dtype) == ((300,), np.int64)
    assert (distances.shape, distances.dtype) == ((300,), np.float32)
    assert np.flatnonzero(labels == -1).tolist() == [4]
    expected = cluster(
        np.load(inputs["features"] / "features.npy"),
        index.rows("train"),
        np.array([4]),
        engine=FaissKMeans(iterations=5),
    )
    assert np.array_equal(labels, expected.labels)
    assert np.load(out / "centroids.npy").tobytes() == expected.centroids.tobytes()
    description = json.loads((out / "labels.json").read_text())
    assert (description["index"], description["k"], description["rows"]) == (index.fingerprint, 6, 300)
    facts = json.loads((out / "facts.json").read_text())
    assert (facts["points_used"], facts["points_available"]) == (239, 239)  # 240 train rows, one skipped
    with open(out / "inertia.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iteration"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert float(rows[-1]["inertia"]) >= facts["inertia_train_sample"] * (1 - 1e-5)


def test_the_stage_checks_k_against_the_training_samples(tmp_path: Path) -> None:
    _, index = make_inputs(tmp_path)
    make_stage(k=240).check(data=index)
    with pytest.raises(ConfigError, match=r"cluster\.k=241: here has 240 training samples"):
        make_stage(k=241).check(data=index)
    assert make_stage().disk_bytes(data=index) == 300 * 12


def test_the_stage_refuses_features_of_other_samples(tmp_path: Path) -> None:
    inputs, index = make_inputs(tmp_path)
    Index(index.table.slice(0, 299), "here").write(inputs["data"])
    with pytest.raises(StoreError, match="fingerprint"):
        make_stage().run(**inputs)
