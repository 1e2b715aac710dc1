"""What the student is told of clusters: several of them, and none that is too small."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cf_lightning.clustering.lloyd import LloydKMeans
from cf_lightning.clustering.rows import Rows
from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError
from cf_lightning.rows import describe_rows
from cf_lightning.stages.cluster import Cluster
from cf_lightning.stages.relabel import Relabel
from indexes import index

POINTS = np.array([0, 0.1, 1, 1.1, 1.2, 4, 9, 9.1, 5, 3.9, 0.2, 7], np.float32)[:, None]
SPLITS = ["train"] * 8 + ["val", "val", "test", "train"]
LABELS = np.array([0, 0, 1, 1, 1, 2, 3, 3, 2, 2, 0, -1])  # 2 has three samples, but one of split train
CENTROIDS = np.array([[0], [1], [4], [9]], np.float32)


def inputs(
    tmp_path: Path, points: np.ndarray, labels: np.ndarray, centroids: np.ndarray, splits: list[str]
) -> dict[str, Path]:
    for name in ("data", "features", "labels", "out"):
        (tmp_path / name).mkdir()
    data = index([[]] * len(points), splits)
    data.write(tmp_path / "data")
    np.save(tmp_path / "features" / "features.npy", points)
    describe_rows(tmp_path / "features", "features", data)
    distances = np.square(points - centroids[labels]).sum(1)
    distances[labels < 0] = np.nan
    for name, array in (("labels", labels), ("distances", distances), ("centroids", centroids)):
        np.save(tmp_path / "labels" / f"{name}.npy", array)
    describe_rows(tmp_path / "labels", "labels", data, k=len(centroids))
    return {name: tmp_path / name for name in ("data", "features", "labels")}


def small_case(tmp_path: Path) -> dict[str, Path]:
    return inputs(tmp_path, POINTS, LABELS, CENTROIDS, SPLITS)


def relabelled(out: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    facts = json.loads((out / "facts.json").read_text())
    assert json.loads((out / "labels.json").read_text())["k"] == facts["k"]
    labels, distances, centroids = (np.load(out / f"{n}.npy") for n in ("labels", "distances", "centroids"))
    assert (labels.dtype, distances.dtype, centroids.dtype) == (np.int64, np.float32, np.float32)
    assert labels.shape == distances.shape
    assert np.array_equal(labels < 0, np.isnan(distances))
    assert len(centroids) == facts["k"]
    return labels, distances, centroids, facts


def test_samples_of_a_small_cluster_go_to_the_nearest_that_is_kept(tmp_path: Path) -> None:
    Relabel(min_size=2).run(tmp_path / "out", **small_case(tmp_path))
    labels, distances, centroids, facts = relabelled(tmp_path / "out")
    assert labels.tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 1, 1, 0, -1]  # 5 is as far from 1 as from 9
    assert centroids[:, 0].tolist() == [0, 1, 9]
    assert distances[[1, 5, 8]] == pytest.approx([0.01, 9, 16])
    assert facts == {"k": 3, "removed_clusters": 1, "moved_samples": 1}


def test_or_are_dropped_and_nothing_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: Any, **__: Any) -> Any:
        raise AssertionError("a feature was read")

    monkeypatch.setattr(Rows, "blocks", read)
    Relabel(min_size=2, small="drop").run(tmp_path / "out", **small_case(tmp_path))
    labels, _, centroids, facts = relabelled(tmp_path / "out")
    assert labels.tolist() == [0, 0, 1, 1, 1, -1, 2, 2, -1, -1, 0, -1]
    assert centroids[:, 0].tolist() == [0, 1, 9]
    assert facts == {"k": 3, "removed_clusters": 1, "dropped_samples": 1}


def test_dropped_and_skipped_samples_have_no_cluster_at_all(tmp_path: Path) -> None:
    Relabel(nearest=2, min_size=2, small="drop").run(tmp_path / "out", **small_case(tmp_path))
    labels, distances, _, _ = relabelled(tmp_path / "out")
    nothing = (labels == -1).all(axis=1)
    assert np.flatnonzero(nothing).tolist() == [5, 8, 9, 11]
    assert (labels[~nothing] >= 0).all()
    assert labels[[0, 4, 6, 10]].tolist() == [[0, 1], [1, 0], [2, 1], [0, 1]]
    assert distances[4] == pytest.approx([0.04, 1.44])


@pytest.mark.parametrize(("nearest", "min_size"), [(1, 14), (3, 1), (5, 14)])
def test_the_nearest_of_the_kept_clusters_as_by_brute_force(
    tmp_path: Path, nearest: int, min_size: int
) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 6)).astype(np.float32)
    splits = ["val" if row % 7 == 0 else "train" for row in range(400)]
    given = inputs(tmp_path, points, np.full(400, -1), np.zeros((1, 6), np.float32), splits)
    skipped = [3, 14]
    np.save(given["features"] / "skipped.npy", np.array(skipped))
    Cluster(k=24, engine=LloydKMeans()).run(given["labels"], data=given["data"], features=given["features"])
    Relabel(nearest=nearest, min_size=min_size).run(tmp_path / "out", **given)
    labels, distances, centroids, facts = relabelled(tmp_path / "out")

    old = np.load(given["labels"] / "labels.npy")
    sizes = np.bincount(old[[split == "train" and old[row] >= 0 for row, split in enumerate(splits)]])
    kept = np.flatnonzero(sizes >= min_size)
    assert np.array_equal(centroids, np.load(given["labels"] / "centroids.npy")[kept])
    assert 6 < facts["k"] == len(kept) <= 24 - (min_size > 1)
    exact = np.square(points[:, None].astype(np.float64) - centroids).sum(2)
    seen = np.setdiff1d(np.arange(400), skipped)
    expected = exact.argsort(axis=1, kind="stable")[seen, :nearest]
    assert np.array_equal(labels.reshape(400, -1)[seen], expected)
    assert distances.reshape(400, -1)[seen] == pytest.approx(exact[seen[:, None], expected], rel=1e-5)
    assert (labels[skipped] == -1).all()
    stays = np.isin(old, kept)
    assert np.array_equal(kept[labels.reshape(400, -1)[stays, 0]], old[stays])


def test_the_own_cluster_comes_first_even_where_another_one_is_nearer(tmp_path: Path) -> None:
    points, centroids = np.arange(6, dtype=np.float32)[:, None], np.array([[0], [2], [5]], np.float32)
    given = inputs(tmp_path, points, np.array([2, 0, 1, 0, 1, 2]), centroids, ["train"] * 6)
    Relabel(nearest=2).run(tmp_path / "out", **given)
    labels, distances, _, _ = relabelled(tmp_path / "out")
    assert labels.tolist() == [[2, 0], [0, 1], [1, 0], [0, 1], [1, 2], [2, 1]]
    assert distances.tolist() == [[25, 0], [1, 1], [0, 4], [9, 1], [4, 1], [0, 9]]


def test_what_cannot_be_is_refused_with_what_could(tmp_path: Path) -> None:
    given = small_case(tmp_path)  # of split train: 2, 3, 1 and 2 samples
    key = r"clusterfit\.relabel\."
    cases = [
        (Relabel(nearest=5), rf"{key}nearest=5: there are 4 clusters; choose up to that"),
        (
            Relabel(min_size=3),
            rf"{key}min_size=3, .*1 of 4 clusters .*2 are needed; choose min_size up to 2$",
        ),
        (
            Relabel(min_size=2, nearest=4),
            rf"{key}min_size=2, nearest=4: 3 of 4 clusters .*4 are .*min_size up to 1 or nearest up to 3$",
        ),
    ]
    for stage, message in cases:
        with pytest.raises(ConfigError, match=message):
            stage.run(tmp_path / "out", **given)
        assert not list((tmp_path / "out").iterdir())


def test_an_empty_cluster_is_nobodys_nearest(tmp_path: Path) -> None:
    splits = ["val" if label == 2 else split for label, split in zip(LABELS, SPLITS, strict=True)]
    given = inputs(tmp_path, POINTS, LABELS, CENTROIDS, splits)
    with pytest.raises(ConfigError, match=r"3 of 4 clusters .*4 are needed; choose nearest up to 3$"):
        Relabel(nearest=4).run(tmp_path / "out", **given)
    Relabel(nearest=3).run(tmp_path / "out", **given)
    assert relabelled(tmp_path / "out")[3] == {"k": 3, "removed_clusters": 1, "moved_samples": 0}


def test_it_is_planned_only_where_it_changes_something() -> None:
    assert not Relabel(small="drop").changes
    assert Relabel(nearest=2).changes
    assert Relabel(min_size=2).changes
    Relabel(nearest=8).check_k(8)
    data: Index = index([[]] * 10)
    assert Relabel(nearest=3).disk_bytes(data=data) == 360
