"""Pseudo-labels that know the labels: clusters inside each of them, and class means."""

import json
from pathlib import Path

import numpy as np
import pytest

from cf_lightning.clustering.lloyd import LloydKMeans
from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError
from cf_lightning.rows import describe_rows
from cf_lightning.stages.per_label import PerLabel, one_label, quota
from cf_lightning.stages.prototypes import Prototypes, class_means
from cf_lightning.tasks.base import Targets
from cf_lightning.tasks.hashtags import Hashtags
from cf_lightning.tasks.rotation import Rotation
from cf_lightning.tasks.supervised import Supervised
from indexes import index

RNG = np.random.default_rng(0)


def inputs(tmp_path: Path, data: Index, features: np.ndarray, skipped: list[int]) -> dict[str, Path]:
    for name in ("data", "features", "out"):
        (tmp_path / name).mkdir()
    data.write(tmp_path / "data")
    np.save(tmp_path / "features" / "features.npy", features.astype(np.float32))
    np.save(tmp_path / "features" / "skipped.npy", np.array(skipped, np.int64))
    describe_rows(tmp_path / "features", "features", data)
    return {name: tmp_path / name for name in ("data", "features")}


def test_no_cluster_crosses_a_label_and_every_row_has_its_nearest(tmp_path: Path) -> None:
    names = [["cat"], ["dog"], []]
    data = index([names[row % 3] for row in range(60)], ["train" if row % 5 else "val" for row in range(60)])
    features = RNG.normal(size=(60, 3))
    stage = PerLabel(task=Supervised(), k=6, engine=LloydKMeans())
    stage.check(data=data)
    stage.run(tmp_path / "out", **inputs(tmp_path, data, features, skipped=[0]))
    labels, centroids = (np.load(tmp_path / "out" / f"{name}.npy") for name in ("labels", "centroids"))
    rows = np.arange(60)
    assert (labels[(rows % 3 == 2) | (rows == 0)] == -1).all()
    cats, dogs = (labels[(rows % 3 == remainder) & (rows > 0)] for remainder in (0, 1))
    assert set(cats) == {0, 1, 2}
    assert set(dogs) == {3, 4, 5}
    for row in rows[labels >= 0]:
        own = slice(0, 3) if row % 3 == 0 else slice(3, 6)
        nearest = np.square(centroids[own] - features[row]).sum(1).argmin() + own.start
        assert labels[row] == nearest, row
    assert json.loads((tmp_path / "out" / "labels.json").read_text())["k"] == 6
    assert json.loads((tmp_path / "out" / "facts.json").read_text())["labels"] == 2


def test_a_label_of_equal_images_has_no_more_clusters_than_different_ones(tmp_path: Path) -> None:
    data = index([["cat"]] * 8 + [["dog"]] * 8)
    features = np.concatenate([np.ones((8, 2)), RNG.normal(size=(8, 2))])
    PerLabel(task=Supervised(), k=6, engine=LloydKMeans()).run(
        tmp_path / "out", **inputs(tmp_path, data, features, [])
    )
    labels = np.load(tmp_path / "out" / "labels.npy")
    assert set(labels[:8]) == {0}
    assert set(labels[8:]) == {1, 2, 3}
    assert json.loads((tmp_path / "out" / "labels.json").read_text())["k"] == 4


@pytest.mark.parametrize(
    ("sizes", "k", "expected"),
    [
        ([10, 10], 6, [3, 3]),
        ([60, 30, 10], 10, [6, 3, 1]),
        ([97, 1, 1, 1], 5, [2, 1, 1, 1]),
        ([5, 0, 5], 3, [2, 0, 1]),
        ([3, 2], 5, [3, 2]),
        ([1, 9], 10, [1, 9]),
    ],
)
def test_clusters_in_proportion_to_the_samples(sizes: list[int], k: int, expected: list[int]) -> None:
    assert quota(np.array(sizes), k).tolist() == expected


def test_every_quota_is_whole_and_possible() -> None:
    for _ in range(50):
        sizes = RNG.integers(0, 40, 12)
        k = int(RNG.integers((sizes > 0).sum(), sizes.sum() + 1))
        quotas = quota(sizes, k)
        assert quotas.sum() == k
        assert (quotas <= sizes).all()
        assert (quotas[sizes > 0] >= 1).all()


def test_of_several_tags_the_rarest_counts() -> None:
    values = np.array([[0, 1], [0, -1], [0, 2], [-1, -1], [1, 0]])
    targets = Targets(values, ["often", "seldom", "rare"])
    assert one_label(targets, np.arange(5)).tolist() == [1, 0, 2, -1, 1]


def test_class_means_by_hand_and_each_row_goes_to_the_nearest(tmp_path: Path) -> None:
    data = index([["a"], ["a"], ["b"], ["b"], ["b"], []], ["train"] * 4 + ["val", "train"])
    features = np.array([[0.0, 0], [2, 0], [10, 0], [1.5, 0], [9, 0], [8, 0]])
    stage = Prototypes(task=Supervised())
    stage.check(data=data)
    stage.run(tmp_path / "out", **inputs(tmp_path, data, features, []))
    assert np.load(tmp_path / "out" / "centroids.npy").tolist() == [[1, 0], [5.75, 0]]
    assert np.load(tmp_path / "out" / "labels.npy").tolist() == [0, 0, 1, 0, 1, 1]
    facts = json.loads((tmp_path / "out" / "facts.json").read_text())
    assert (facts["k"], facts["kept_label"]) == (2, pytest.approx(3 / 5))


def test_a_sample_of_several_tags_is_in_the_mean_of_each() -> None:
    features = np.array([[1.0], [3.0], [8.0]], np.float32)
    means = class_means(features, np.array([[0, 1], [0, -1], [1, 0]]), np.array([0, 1]), 3)
    assert means[:, 0].tolist() == [2.0, 1.0, 0.0]


def test_what_has_no_labels_is_refused() -> None:
    data = index([["cat"]] * 5 + [["dog"]] * 5)
    for stage in (PerLabel(task=Rotation(), k=4, engine=LloydKMeans()), Prototypes(task=Rotation())):
        with pytest.raises(ConfigError, match=r"contestant=\w+: needs labels or tags of the data, and Rotat"):
            stage.check(data=data)
    for k in (1, 11):
        message = rf"contestant=per_label, cluster\.k={k}: 2 labels on 10 .*choose k from 2 to 10"
        with pytest.raises(ConfigError, match=message):
            PerLabel(task=Supervised(), k=k, engine=LloydKMeans()).check(data=data)


def test_tags_are_labels_too() -> None:
    data = index([["red", "car"], ["red"], ["blue", "car"], ["blue"]] * 3, column="tags")
    PerLabel(task=Hashtags(), k=5, engine=LloydKMeans()).check(data=data)
    Prototypes(task=Hashtags()).check(data=data)
