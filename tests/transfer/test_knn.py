from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cf_lightning.config import build
from cf_lightning.errors import ConfigError, DataError, StoreError, UserError
from cf_lightning.stages.transfer import Transfer
from cf_lightning.transfer import knn
from cf_lightning.transfer.knn import KNN
from cf_lightning.transfer.splits import Split

Fixture = Callable[..., Any]
FAN = np.array([[1.0, 0], [0.8, 0.6], [0.8, -0.6], [-1, 0]], dtype=np.float32)  # cosine to x: 1, 0.8, 0.8, -1


def top1(protocol: KNN, train_labels: list[int], truth: int) -> float:
    features = np.concatenate([3 * FAN, [[0.5, 0]]]).astype(np.float32)  # lengths do not matter
    train, test = Split(np.arange(4), np.array(train_labels)), Split(np.array([4]), np.array([truth]))
    return protocol.evaluate(features, train, test, "cpu")[0].value


def test_votes_by_hand() -> None:
    # one vote of exp(1 / T) for class 1 against two of exp(0.8 / T) for class 0
    assert top1(KNN(k=3, temperature=1.0), [1, 0, 0, 2], truth=0) == 1.0
    assert top1(KNN(k=3, temperature=0.07), [1, 0, 0, 2], truth=1) == 1.0
    assert top1(KNN(k=1, temperature=1.0), [1, 0, 0, 2], truth=1) == 1.0
    assert top1(KNN(k=4, temperature=1e-3), [1, 0, 0, 2], truth=1) == 1.0  # exp(1000) does not overflow


def test_ties_go_to_the_lower_class() -> None:
    assert top1(KNN(k=3, temperature=0.07), [2, 1, 0, 2], truth=2) == 1.0
    assert top1(KNN(k=3, temperature=1e9), [2, 1, 0, 2], truth=0) == 1.0  # every vote counts the same


def test_a_class_without_a_vote_is_no_hit() -> None:
    train, test = Split(np.arange(6), np.arange(6)), Split(np.array([0]), np.array([1]))
    features = np.eye(6, dtype=np.float32)
    top5 = KNN(k=1).evaluate(features, train, test, "cpu")[1]
    assert (top5.metric, top5.value) == ("top5", 0.0)


def test_chunks_change_nothing_and_rows_follow_samples(
    measure: Fixture, blobs: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = blobs(spread=1.0)
    whole = measure(KNN(), target.features, target.labels, target.splits)
    monkeypatch.setattr(knn, "TRAIN_CHUNK", 7)
    monkeypatch.setattr(knn, "TEST_CHUNK", 13)
    assert measure(KNN(), target.features, target.labels, target.splits).written == whole.written
    assert whole.value() > 0.9
    for split in ("train", "test"):
        rolled = target.labels_rolled_in(split)
        assert measure(KNN(), target.features, rolled, target.splits).value() < 0.5


def test_agrees_with_scikit_learn(measure: Fixture, blobs: Fixture) -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    target = blobs(spread=2.5, num_classes=8)
    features, labels = target.features.astype(np.float16).astype(np.float64), np.array(target.labels)
    is_train = np.array(target.splits) == "train"
    reference = neighbors.KNeighborsClassifier(
        n_neighbors=20, metric="cosine", algorithm="brute", weights=lambda distance: np.exp(-distance / 0.07)
    ).fit(features[is_train], labels[is_train])
    expected = reference.score(features[~is_train], labels[~is_train])
    assert 0.2 < expected < 0.8
    ours = measure(KNN(), target.features, target.labels, target.splits).value()
    assert ours == pytest.approx(expected, abs=0.002)  # at most one of 600 differs in the last bits


@pytest.mark.parametrize(
    ("labels", "splits", "message"),
    [
        (["a", "b c", "a"], ["train", "train", "test"], "2 classes have no sample in split test"),
        (["a", "b", None], ["train", "train", "test"], "no sample with a label in split test"),
        (["a", "b"], ["train", "train"], "no sample with a label in split val"),
        ([None, None, "a"], ["train", "train", "val"], "no sample with a label in split train"),
        (["a", "a", "a"], ["train", "train", "test"], r"split train has one class \(a\)"),
        (
            ["a", "b", "z"],
            ["train", "train", "test"],
            r"1 classes of split test have no sample in train \(z\)",
        ),
    ],
)
def test_refuses_a_target_that_cannot_work(
    make_index: Fixture, labels: list[str | None], splits: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Transfer(protocol=KNN(k=1)).check(data=make_index(labels, splits))


def test_refuses_more_neighbours_than_samples(make_index: Fixture, measure: Fixture) -> None:
    labels, splits = ["a", "b", "a", "a"], ["train", "train", "train", "test"]
    with pytest.raises(
        ConfigError, match=r"transfer\.knn\.protocol\.k=4: root=images has 3 labelled samples"
    ):
        Transfer(protocol=KNN(k=4)).check(data=make_index(labels, splits))
    with pytest.raises(ConfigError, match=r"k=3: .* has 2 labelled samples"):
        measure(KNN(k=3), FAN, labels, splits, skipped=[2])


def test_refuses_features_of_another_index(make_index: Fixture, measure: Fixture, tmp_path: Path) -> None:
    labels, splits = ["a", "b", "a", "a"], ["train", "train", "train", "test"]
    measure(KNN(k=1), FAN, labels, splits)
    other = tmp_path / "other"
    other.mkdir()
    make_index(["b", "a", "a", "a"], splits).write(other)
    with pytest.raises(StoreError):
        Transfer(protocol=KNN(k=1)).run(tmp_path, features=tmp_path, data=other)


@pytest.mark.parametrize("scale", ["demo", "paper"])
@pytest.mark.parametrize("name", ["knn", "linear"])
def test_yaml_builds(make_index: Fixture, from_yaml: Fixture, name: str, scale: str) -> None:
    stage = from_yaml(name, scale)
    assert name == stage.protocol.NAME
    assert getattr(stage.protocol, "seed", 5) == 5
    stage.check(data=make_index(["a", "b"] * 20, ["train", "train", "val", "val"] * 10))


@pytest.mark.parametrize("setting", [{"k": 0}, {"temperature": 0.0}, {"k": "20"}, {"neighbours": 3}])
def test_settings_are_checked(setting: dict[str, Any]) -> None:
    node = {"_target_": "cf_lightning.transfer.knn.KNN", **setting}
    with pytest.raises(UserError, match=rf"transfer\.knn\.protocol\.{next(iter(setting))}="):
        build(node, "transfer.knn.protocol")
