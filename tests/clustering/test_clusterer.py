import csv
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from cf_lightning.clustering import estimate
from cf_lightning.clustering.assignment import Assignment
from cf_lightning.clustering.base import Fit, KMeans
from cf_lightning.clustering.clusterer import Clusterer
from cf_lightning.clustering.faiss import FaissKMeans
from cf_lightning.clustering.lloyd import LloydKMeans
from cf_lightning.clustering.rows import Rows
from cf_lightning.clustering.space import FeatureSpace
from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError, StoreError
from cf_lightning.runtime import Runtime
from cf_lightning.stages.cluster import Cluster
from samples import NONE, Recorder, blobs, make_features, squared, unit


def cluster(
    features: np.ndarray,
    fit_rows: np.ndarray | None = None,
    skipped: np.ndarray = NONE,
    job: Fit | None = None,
    **settings: Any,
) -> Assignment:
    settings = {"k": 6, "engine": FaissKMeans(iterations=10), **settings}
    rows = np.arange(len(features)) if fit_rows is None else fit_rows
    return Clusterer(**settings).cluster(features, rows, skipped, job or Fit())


@pytest.fixture(params=[FaissKMeans(iterations=5), LloydKMeans(iterations=5)], ids=["faiss", "lloyd"])
def engine(request: pytest.FixtureRequest) -> KMeans:
    built: KMeans = request.param
    return built


@pytest.mark.parametrize("offset", [0, 1000])
def test_every_row_gets_the_nearest_centroid(
    offset: int, engine: KMeans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rows, "BLOCK_BYTES", 4 * 8 * 37)
    features = blobs() + np.float32(offset)
    found = cluster(features, engine=engine)
    distances = squared(features, found.centroids)
    assert np.array_equal(found.labels, distances.argmin(axis=1))
    assert found.distances == pytest.approx(distances.min(axis=1), rel=1e-3, abs=1e-5)
    assert found.inertia_of(found.used) == pytest.approx(distances.min(axis=1).sum(), rel=1e-4)
    assert found.inertia_of(found.used) <= found.inertia[-1] * (1 + 1e-4)


def test_the_size_of_blocks_changes_no_bit(engine: KMeans, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cluster(blobs(), engine=engine)
    monkeypatch.setattr(Rows, "BLOCK_BYTES", 4 * 8 * 50)
    in_blocks = cluster(blobs(), engine=engine)
    for name in ("labels", "distances", "centroids"):
        assert getattr(whole, name).tobytes() == getattr(in_blocks, name).tobytes()


def test_a_file_is_as_good_as_an_array(engine: KMeans, tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", blobs())
    from_file = cluster(np.load(tmp_path / "f.npy", mmap_mode="r"), engine=engine, skipped=np.array([7]))
    from_array = cluster(blobs(), engine=engine, skipped=np.array([7]))
    assert from_file.centroids.tobytes() == from_array.centroids.tobytes()
    assert np.array_equal(from_file.labels, from_array.labels)


def test_the_job_reaches_the_engine(tmp_path: Path) -> None:
    watch = Recorder()
    start = blobs()[:6].copy()
    job = Fit(start=start, folder=tmp_path, watch=watch)
    found = cluster(blobs(), engine=LloydKMeans(iterations=3), job=job)
    assert found.inertia[0] == pytest.approx(squared(blobs(), start).min(axis=1).sum(), rel=1e-9)
    assert list(watch.inertia.values()) == found.inertia
    assert (tmp_path / "lloyd.npz").exists()
    assert len(watch.lines) == 1
    assert "500 x 8 into 6 clusters needs " in watch.lines[0]
    assert " MB of memory and at most about 1 s" in watch.lines[0]


def test_fits_only_on_the_rows_it_is_given(engine: KMeans) -> None:
    features = blobs()
    features[400:] = 1000
    found = cluster(features, np.arange(400), engine=engine)
    alone = cluster(features[:400], engine=engine)
    assert found.centroids.tobytes() == alone.centroids.tobytes()
    assert np.array_equal(found.labels[:400], alone.labels)
    assert found.labels[400:].min() >= 0
    assert found.facts()["points_available"] == 400


def test_skipped_rows_have_no_label_and_no_say(engine: KMeans) -> None:
    features = blobs()
    skipped = np.array([3, 77, 499])
    features[skipped] = 0
    found = cluster(features, skipped=skipped, engine=engine)
    assert np.flatnonzero(found.labels == -1).tolist() == [3, 77, 499]
    assert np.flatnonzero(np.isnan(found.distances)).tolist() == [3, 77, 499]
    kept = np.delete(np.arange(500), skipped)
    assert np.array_equal(found.available, kept)
    assert found.centroids.tobytes() == cluster(features[kept], engine=engine).centroids.tobytes()


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


def test_more_clusters_than_rows() -> None:
    with pytest.raises(ConfigError, match="k=10: there are 9 rows to fit on"):
        cluster(blobs(12), k=10, fit_rows=np.arange(10), skipped=np.array([2]))


def test_more_clusters_than_different_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.repeat(blobs(9), 20, axis=0)
    monkeypatch.setattr(Rows, "BLOCK_BYTES", 4 * 8 * 15)
    assert cluster(features, k=9, engine=LloydKMeans()).labels.max() <= 8
    monkeypatch.setattr(FaissKMeans, "fit", lambda *_: pytest.fail("it was fitted"))
    with pytest.raises(ConfigError, match="k=10: only 9 of the 180 rows differ; choose k up to that"):
        cluster(features, k=10)


def test_too_little_memory_is_said_before_the_rows_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    row = 4 * 8
    monkeypatch.setattr(estimate, "free_memory", lambda: row * 2 * 6 + row * 6 * 30)
    with pytest.raises(
        ConfigError,
        match=r"k=6: .*500 x 8 into 6 clusters .*cluster\.max_points_per_centroid=30 or less.*lloyd",
    ):
        cluster(blobs())
    assert len(cluster(blobs(), max_points_per_centroid=30).used) == 180
    monkeypatch.setattr(estimate, "free_memory", lambda: 100)
    with pytest.raises(
        ConfigError, match=r"choose a smaller k, or fewer dimensions with cluster\.space\.pca"
    ):
        cluster(blobs())
    monkeypatch.setattr(estimate, "free_memory", lambda: None)
    assert cluster(blobs()).labels.min() >= 0


def test_free_memory_is_a_plausible_number() -> None:
    free = estimate.free_memory()
    assert free is None or 2**20 < free < 2**50


def test_settings_that_contradict_or_leave_their_range() -> None:
    spherical = LloydKMeans(spherical=True)
    with pytest.raises(ValidationError, match=r"engine\.spherical=true clusters directions.*normalize=l2"):
        Clusterer(k=2, engine=spherical, space=FeatureSpace(normalize="none"))
    assert cluster(unit(blobs()), engine=spherical).labels.min() >= 0
    for wrong in ({"k": 0}, {"k": 2.0}, {"seed": -1}, {"max_points_per_centroid": 0}, {"space": "l2"}):
        with pytest.raises(ValidationError):
            Clusterer.model_validate({"k": 2, "engine": FaissKMeans(), **wrong})


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    features = blobs(300)
    features[4] = 0
    return make_features(tmp_path, features)


def make_stage(engine: KMeans, k: int = 6) -> Cluster:
    return Cluster(k=k, engine=engine, runtime=Runtime(accelerator="cpu", progress=False))


def test_the_stage_writes_labels_of_its_index(inputs: dict[str, Path], engine: KMeans) -> None:
    out, index = inputs["out"], Index.read(inputs["data"])
    (out / "labels.npy").write_bytes(b"half a file of a killed attempt")
    make_stage(engine).run(**inputs)
    labels, distances = np.load(out / "labels.npy"), np.load(out / "distances.npy")
    assert (labels.shape, labels.dtype) == ((300,), np.int64)
    assert (distances.shape, distances.dtype) == ((300,), np.float32)
    assert np.flatnonzero(labels == -1).tolist() == [4]
    features = np.load(inputs["features"] / "features.npy")
    expected = cluster(features, index.rows("train"), np.array([4]), engine=engine)
    assert np.array_equal(labels, expected.labels)
    assert np.load(out / "centroids.npy").tobytes() == expected.centroids.tobytes()
    description = json.loads((out / "labels.json").read_text())
    assert (description["index"], description["k"], description["rows"]) == (index.fingerprint, 6, 300)
    facts = json.loads((out / "facts.json").read_text())
    assert (facts["points_used"], facts["points_available"]) == (239, 239)  # 240 train rows, one skipped
    with open(out / "inertia.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iteration"] for row in rows] == [str(number + 1) for number in range(len(expected.inertia))]
    assert float(rows[-1]["inertia"]) >= facts["inertia_train_sample"] * (1 - 1e-5)
    assert not (out / "fit").exists()


def test_the_stage_goes_on_where_it_was_interrupted(
    inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, stage = inputs["out"], make_stage(LloydKMeans(iterations=8, init="random"))
    stage.run(**inputs)
    whole = {file.name: file.read_bytes() for file in out.iterdir()}
    for file in out.iterdir():
        file.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("cf_lightning.clustering.watch.LiveWatch", lambda *_: Closing(stop_in=4))
        with pytest.raises(Recorder.Stop):
            stage.run(**inputs)
    saved = np.load(out / "fit" / "lloyd.npz")["inertia"]
    assert len(saved) == 3
    stage.run(**inputs)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == whole


class Closing(Recorder):
    def close(self) -> None:
        pass


def test_the_stage_checks_k_against_the_training_samples(inputs: dict[str, Path]) -> None:
    index = Index.read(inputs["data"])
    make_stage(FaissKMeans(), k=240).check(data=index)
    with pytest.raises(ConfigError, match=r"cluster\.k=241: .* has 240 training samples"):
        make_stage(FaissKMeans(), k=241).check(data=index)
    assert make_stage(FaissKMeans()).disk_bytes(data=index) == 300 * 12
    assert make_stage(FaissKMeans()).ranks() == "one"
    assert make_stage(LloydKMeans()).ranks() == "all"


def test_the_stage_refuses_features_of_other_samples_or_truncated(inputs: dict[str, Path]) -> None:
    stage, file = make_stage(FaissKMeans()), inputs["features"] / "features.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with pytest.raises(StoreError, match=r"features\.npy is missing or truncated"):
        stage.run(**inputs)
    file.write_bytes(whole)
    index = Index.read(inputs["data"])
    Index(index.table.slice(0, 299), "here").write(inputs["data"])
    with pytest.raises(StoreError, match="fingerprint"):
        stage.run(**inputs)
