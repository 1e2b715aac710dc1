import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import normalize

from cf_lightning.config import build
from cf_lightning.errors import ConfigError, DataError, UserError
from cf_lightning.stages.transfer import Transfer
from cf_lightning.transfer import logreg
from cf_lightning.transfer.logreg import LogisticRegression
from cf_lightning.transfer.splits import Split

Fixture = Callable[..., Any]
CS = [0.01, 1.0, 100.0]


def splits_of(target: Any) -> tuple[np.ndarray, Split, Split]:
    labels, names = np.unique(target.labels, return_inverse=True)[1], np.array(target.splits)
    rows = [np.flatnonzero(names == name) for name in ("train", "test")]
    train, test = (Split(each, labels[each]) for each in rows)
    return target.features.astype(np.float16), train, test


@pytest.mark.parametrize("num_classes", [2, 8])
def test_agrees_with_scikit_learn(measure: Fixture, blobs: Fixture, num_classes: int) -> None:
    target = blobs(spread=2.0, num_classes=num_classes)
    features, train, test = splits_of(target)
    seen, measured = (normalize(features[split.rows].astype(np.float32)) for split in (train, test))
    held = train_test_split(seen, train.labels, test_size=0.25, random_state=3, stratify=train.labels)
    by_c = [Reference(C=c, max_iter=1000).fit(held[0], held[2]).score(held[1], held[3]) for c in CS]
    best = CS[int(np.argmax(by_c))]
    reference = Reference(C=best, max_iter=1000).fit(seen, train.labels)
    expected = reference.score(measured, test.labels)
    ours = measure(
        LogisticRegression(cs=CS, val_share=0.25, seed=3), target.features, target.labels, target.splits
    )
    details = ours.metrics[0]["details"]
    assert 0.3 < expected < 0.95
    assert ours.value() == pytest.approx(expected, abs=0.002)
    assert details["val_top1"] == pytest.approx(by_c, abs=0.002)
    assert details["C"] == best
    if num_classes > 5:
        behind = np.argsort(-reference.decision_function(measured), axis=1)[:, :5]
        top5 = (behind == test.labels[:, None]).any(axis=1).mean()
        assert ours.value("top5") == pytest.approx(top5, abs=0.002)


def test_rows_follow_samples_and_chunks_change_nothing(
    measure: Fixture, blobs: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, protocol = blobs(spread=0.5), LogisticRegression(cs=CS)
    whole = measure(protocol, target.features, target.labels, target.splits)
    assert whole.value() > 0.98
    monkeypatch.setattr(logreg, "CHUNK", 7)
    in_parts = measure(protocol, target.features, target.labels, target.splits)
    assert in_parts.value() == pytest.approx(whole.value(), abs=0.002)
    for split in ("train", "test"):
        rolled = target.labels_rolled_in(split)
        assert measure(protocol, target.features, rolled, target.splits).value() < 0.5


def test_the_seed_alone_decides(measure: Fixture, blobs: Fixture) -> None:
    target = blobs(spread=2.0)
    np.random.seed(1)
    first = measure(LogisticRegression(cs=CS, seed=3), target.features, target.labels, target.splits)
    np.random.seed(2)
    again = measure(LogisticRegression(cs=CS, seed=3), target.features, target.labels, target.splits)
    other = measure(LogisticRegression(cs=CS, seed=4), target.features, target.labels, target.splits)
    assert first.written == again.written
    assert first.metrics[0]["details"]["val_top1"] != other.metrics[0]["details"]["val_top1"]


def test_nothing_is_chosen_by_the_test_split(blobs: Fixture) -> None:
    features, train, test = splits_of(blobs(spread=2.0))
    protocol = LogisticRegression(cs=CS)
    score = protocol.evaluate(features, train, test, "cpu")[0]
    other = protocol.evaluate(features, train, Split(test.rows, (test.labels + 1) % 4), "cpu")[0]
    assert score.value != other.value
    assert score.details == other.details


def test_says_what_was_chosen_and_whether_it_is_at_an_end(measure: Fixture, blobs: Fixture) -> None:
    target = blobs(spread=2.0)
    inside = measure(LogisticRegression(cs=[1e-4, 1e4, 1e5]), target.features, target.labels, target.splits)
    details = inside.metrics[0]["details"]
    num_train = target.splits.count("train")
    num_val = -(-num_train // 5)
    assert details["tuned_on"] == f"{num_val} samples of train; then fitted on all {num_train}"
    expected = {"C": 1e4, "cs": [1e-4, 1e4, 1e5], "converged": True, "val_unconverged": 0, "val_share": 0.2}
    assert {key: details[key] for key in expected} == expected
    assert details["C_at_end_of_cs"] is False
    assert details["val_top1"][0] < details["val_top1"][1] == details["val_top1"][2]  # the first of equals
    ended = measure(LogisticRegression(cs=[1e-4, 1e4]), target.features, target.labels, target.splits)
    assert ended.metrics[0]["details"]["C_at_end_of_cs"] is True


def test_says_what_did_not_converge_and_warns_of_none(blobs: Fixture) -> None:
    features, train, test = splits_of(blobs(spread=2.0, num_samples=200))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (score,) = LogisticRegression(cs=CS, max_iter=1).evaluate(features, train, test, "cpu")
    assert not caught
    assert (score.details["converged"], score.details["val_unconverged"]) == (False, len(CS))


def test_a_class_that_train_lacks_takes_no_number(blobs: Fixture) -> None:
    features, train, test = splits_of(blobs(spread=2.0, num_classes=8))
    expected = LogisticRegression(cs=CS).evaluate(features, train, test, "cpu")
    apart = [Split(split.rows, split.labels * 2 + 1) for split in (train, test)]
    assert LogisticRegression(cs=CS).evaluate(features, *apart, "cpu") == expected


def test_refuses_features_that_are_not_finite(blobs: Fixture) -> None:
    features, train, test = splits_of(blobs(spread=2.0, num_samples=200))
    features[test.rows[5], 3] = np.nan
    with pytest.raises(DataError, match=f"row {test.rows[5]} holds NaN or infinite"):
        LogisticRegression(cs=[1.0]).evaluate(features, train, test, "cpu")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("aaab", "0.2: root=images has 1 sample of class b in split train"),
        ("aabbcc", "0.2: root=images has 6 samples in split train, .* fewer than its 3 classes"),
    ],
)
def test_refuses_a_train_split_too_small_to_tune_on(make_index: Fixture, labels: str, message: str) -> None:
    index = make_index([*labels, "a"], ["train"] * len(labels) + ["test"])
    with pytest.raises(ConfigError, match=rf"transfer\.logreg\.protocol\.val_share={message}"):
        Transfer(protocol=LogisticRegression()).check(data=index)
    fits = make_index([*labels, "b", "c", "a"], ["train"] * (len(labels) + 2) + ["test"])
    if "c" in labels:
        Transfer(protocol=LogisticRegression(val_share=0.4)).check(data=fits)


@pytest.mark.parametrize(("scale", "grid"), [("demo", 4), ("paper", 11)])
def test_yaml_builds(make_index: Fixture, from_yaml: Fixture, scale: str, grid: int) -> None:
    stage = from_yaml("logreg", scale)
    assert (stage.protocol.NAME, stage.protocol.seed, len(stage.protocol.cs)) == ("logreg", 5, grid)
    assert scale == "demo" or stage.protocol == LogisticRegression(seed=5)
    stage.check(data=make_index(["a", "b"] * 20, ["train", "train", "val", "val"] * 10))


@pytest.mark.parametrize(
    "setting", [{"cs": []}, {"cs": [0.0]}, {"cs": [10, 1]}, {"val_share": 0.6}, {"max_iter": 0}, {"seed": -1}]
)
def test_settings_are_checked(setting: dict[str, Any]) -> None:
    node = {"_target_": "cf_lightning.transfer.logreg.LogisticRegression", **setting}
    with pytest.raises(UserError, match=rf"transfer\.logreg\.protocol\.{next(iter(setting))}"):
        build(node, "transfer.logreg.protocol")
