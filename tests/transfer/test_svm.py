import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from cf_lightning.config import build
from cf_lightning.errors import ConfigError, DataError, UserError
from cf_lightning.stages.transfer import Transfer
from cf_lightning.transfer import linear_svm, svm
from cf_lightning.transfer.splits import Split, class_splits
from cf_lightning.transfer.svm import SVM

Fixture = Callable[..., Any]
CS = [0.1, 1.0, 10.0]


class Several:
    """Samples of which each has any of three classes, or none."""

    def __init__(self, num_samples: int = 600, spread: float = 1.5) -> None:
        draw = np.random.default_rng(0)
        self.has = draw.random((num_samples, 3)) < (0.5, 0.2, 0.1)
        centres = draw.normal(size=(3, 12))
        noise = draw.normal(size=(num_samples, 12))
        self.features = (self.has @ centres + spread * noise).astype(np.float16)
        self.splits: list[str] = draw.choice(["train", "test"], size=num_samples).tolist()
        self.labels = [" ".join(np.array(["a", "b", "c"])[has]) or None for has in self.has]

    def split(self, name: str) -> Split:
        rows = np.flatnonzero((np.array(self.splits) == name) & self.has.any(axis=1))
        return Split(rows, self.has[rows].astype(np.int8))


def test_splits_of_several_labels(make_index: Fixture) -> None:
    labels = ["a b", None, "c b b", "a", "c", "b", "a c", "a", "b a"]
    index = make_index(labels, ["train"] * 4 + ["test"] * 2 + ["val", "test", "train"])
    train, test = class_splits(index, skipped=np.array([8]))
    assert train.rows.tolist() == [0, 2, 3]
    assert train.labels.tolist() == [[1, 1, 0], [0, 1, 1], [1, 0, 0]]
    assert test.rows.tolist() == [4, 5, 7]
    assert test.labels.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert (train.labels.dtype, test.labels.dtype) == (np.int8, np.int8)
    with pytest.raises(DataError, match=r"1 classes have no sample in split test, .* undefined \(a\)"):
        class_splits(index, skipped=np.array([7]))


def test_splits_of_one_label_are_one_hot(make_index: Fixture) -> None:
    index = make_index(["b", "a", "b", "a"], ["train", "train", "test", "test"])
    train, test = class_splits(index, np.empty(0, np.int64))
    assert (train.labels.tolist(), test.labels.tolist()) == ([[0, 1], [1, 0]], [[0, 1], [1, 0]])
    assert train.views(2).rows.tolist() == [0, 1, 2, 3]
    assert train.views(2).labels.tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]]


def test_agrees_with_scikit_learn(measure: Fixture) -> None:
    target = Several()
    train, test = target.split("train"), target.split("test")
    features = normalize(target.features.astype(np.float64))
    expected, chosen = [], []
    for has, truth in zip(train.labels.T, test.labels.T, strict=True):
        machine = LinearSVC(class_weight={0: 1, 1: 2}, max_iter=2000, random_state=3)
        folds = StratifiedKFold(3, shuffle=True, random_state=3)
        search = GridSearchCV(machine, {"C": CS}, scoring="average_precision", cv=folds)
        search.fit(features[train.rows], has)
        chosen.append(search.best_params_["C"])
        scores = search.decision_function(features[test.rows])
        precision, recall, _ = precision_recall_curve(truth, scores)
        expected.append(-np.diff(recall) @ np.maximum.accumulate(precision)[:-1])
    ours = measure(SVM(cs=CS, seed=3), target.features, target.labels, target.splits)
    (score,) = ours.metrics
    assert 0.3 < np.mean(expected) < 0.9
    assert ours.value("map") == pytest.approx(np.mean(expected), abs=0.002)
    assert score["details"]["ap"] == pytest.approx(expected, abs=0.005)
    assert score["details"]["C"] == chosen
    assert len(set(chosen)) > 1  # that of one class is not that of another


def test_rows_follow_samples_and_chunks_change_nothing(
    measure: Fixture, blobs: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = blobs(spread=0.5, num_samples=600, num_classes=8)
    protocol = SVM(cs=CS)
    whole = measure(protocol, target.features, target.labels, target.splits)
    assert whole.value("map") > 0.98
    monkeypatch.setattr(svm, "CHUNK", 7)
    in_parts = measure(protocol, target.features, target.labels, target.splits)
    assert in_parts.value("map") == pytest.approx(whole.value("map"), abs=1e-9)
    for split in ("train", "test"):
        rolled = target.labels_rolled_in(split)
        assert measure(protocol, target.features, rolled, target.splits).value("map") < 0.5


def test_writes_settings_choices_and_counts(measure: Fixture) -> None:
    target = Several()
    result = measure(SVM(cs=CS), target.features, target.labels, target.splits)
    (score,) = result.metrics
    train, test = target.split("train"), target.split("test")
    assert (score["protocol"], score["metric"], score["n_test"]) == ("svm", "map", len(test))
    assert 0 < score["ci_low"] < score["value"] < score["ci_high"] < 1
    details = score["details"]
    assert details.items() >= {"cs": CS, "folds": 3, "seed": 0, "n_train": len(train)}.items()
    assert details["unlabelled"] == 600 - len(train) - len(test) > 0
    assert details["unconverged"] == 0
    assert result.facts == {"map": round(100 * score["value"], 1)}


def test_the_seed_alone_decides(measure: Fixture) -> None:
    target = Several(num_samples=300)
    np.random.seed(1)
    first = measure(SVM(cs=CS, seed=3), target.features, target.labels, target.splits)
    np.random.seed(2)
    again = measure(SVM(cs=CS, seed=3), target.features, target.labels, target.splits)
    other = measure(SVM(cs=CS, seed=4), target.features, target.labels, target.splits)
    assert first.written == again.written
    assert first.metrics[0]["ci_low"] != other.metrics[0]["ci_low"]


def test_difficult_is_negative_in_training_and_dropped_in_the_test() -> None:
    target = Several()
    train, test = target.split("train"), target.split("test")
    difficult = np.random.default_rng(1).random(train.labels.shape) < 0.1
    marked = Split(train.rows, np.where(difficult, -1, train.labels).astype(np.int8))
    negative = Split(train.rows, np.where(difficult, 0, train.labels).astype(np.int8))
    protocol = SVM(cs=[1.0])
    scores = protocol.evaluate(target.features, marked, test, "cpu")
    assert scores == protocol.evaluate(target.features, negative, test, "cpu")
    assert scores != protocol.evaluate(target.features, train, test, "cpu")

    half = len(test) // 2
    labels = test.labels.copy()
    labels[half:] = -1
    marked_test = protocol.evaluate(target.features, train, Split(test.rows, labels), "cpu")[0]
    rest = protocol.evaluate(target.features, train, Split(test.rows[:half], test.labels[:half]), "cpu")[0]
    assert (marked_test.value, marked_test.details) == (rest.value, rest.details)


def test_nothing_is_chosen_by_the_test_split() -> None:
    target = Several()
    train, test = target.split("train"), target.split("test")
    (score,) = SVM(cs=CS).evaluate(target.features, train, test, "cpu")
    (other,) = SVM(cs=CS).evaluate(target.features, train, Split(test.rows, 1 - test.labels), "cpu")
    assert score.value != other.value
    assert score.details["C"] == other.details["C"]


def test_counts_fits_that_did_not_converge_and_warns_of_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_svm, "MAX_ITER", 1)
    target = Several(num_samples=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = SVM(cs=CS).evaluate(target.features, target.split("train"), target.split("test"), "cpu")
    assert f'"unconverged": {3 * (3 * len(CS) + 1)}' in json.dumps(scores[0].details)


def test_refuses_features_that_are_not_finite() -> None:
    target = Several(num_samples=100)
    test = target.split("test")
    target.features[test.rows[5], 3] = np.nan
    with pytest.raises(DataError, match=f"row {test.rows[5]} holds NaN or infinite"):
        SVM(cs=[1.0]).evaluate(target.features, target.split("train"), test, "cpu")


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (["a", "b"], [None], "no sample with a label in split test"),
        (["a", "b"], [], "no sample with a label in split val"),
        ([None], ["a"], "no sample with a label in split train"),
        (["a", "a"], ["a"], r"there is one class \(a\); a target needs two or more"),
        (["a b", "b"], ["a b", "b z"], r"1 classes of split test have no sample in train \(z\)"),
        (["a b", "c"], ["a c"], r"1 classes have no sample in split test, so that mAP is undefined \(b\)"),
        (["a b", "b"], ["a b"], r"1 classes have no sample without them in train \(b\)"),
    ],
)
def test_refuses_a_target_that_cannot_work(
    make_index: Fixture, train: list[str | None], test: list[str | None], message: str
) -> None:
    index = make_index(train + test, ["train"] * len(train) + ["test"] * len(test))
    with pytest.raises(DataError, match=f"root=images: {message}"):
        Transfer(protocol=SVM()).check(data=index)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "a", "a", "b", "b"], "3: root=images has 2 samples with class b in split train"),
        (
            ["a b", "a b", "a b", "b", "b", "b", "a"],
            "3: root=images has 1 samples without class b in split train",
        ),
        (["a", "a", "a", "b", "b", "b"], None),
    ],
)
def test_refuses_a_class_of_fewer_samples_than_folds(
    make_index: Fixture, labels: list[str], message: str | None
) -> None:
    splits = ["train"] * len(labels) + ["test"] * 2
    index = make_index([*labels, "a", "b"], splits)
    if message is None:
        Transfer(protocol=SVM(folds=3)).check(data=index)
        return
    with pytest.raises(ConfigError, match=rf"transfer\.svm\.protocol\.folds={message}"):
        Transfer(protocol=SVM(folds=3)).check(data=index)


@pytest.mark.parametrize(("scale", "grid"), [("demo", 3), ("paper", 11)])
def test_yaml_builds(make_index: Fixture, from_yaml: Fixture, scale: str, grid: int) -> None:
    stage = from_yaml("svm", scale)
    assert (stage.protocol.NAME, stage.protocol.seed, stage.protocol.folds) == ("svm", 5, 3)
    assert len(stage.protocol.cs) == grid
    assert scale == "demo" or stage.protocol.cs == SVM().cs
    stage.check(data=make_index(["a", "b"] * 20, ["train", "train", "val", "val"] * 10))


@pytest.mark.parametrize("setting", [{"cs": []}, {"cs": [0.0]}, {"folds": 1}, {"seed": -1}, {"c": 1.0}])
def test_settings_are_checked(setting: dict[str, Any]) -> None:
    node = {"_target_": "cf_lightning.transfer.svm.SVM", **setting}
    with pytest.raises(UserError, match=rf"transfer\.svm\.protocol\.{next(iter(setting))}"):
        build(node, "transfer.svm.protocol")
