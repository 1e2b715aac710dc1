import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import t
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from cf_lightning.config import build
from cf_lightning.errors import ConfigError, DataError, UserError
from cf_lightning.stages.transfer import Transfer
from cf_lightning.transfer import linear_svm, low_shot
from cf_lightning.transfer.low_shot import LowShot
from cf_lightning.transfer.splits import Split

Fixture = Callable[..., Any]
QUICK: dict[str, Any] = {"shots": [1, 8], "draws": 3}


def splits_of(target: Any) -> tuple[np.ndarray, Split, Split]:
    labels, names = np.unique(target.labels, return_inverse=True)[1], np.array(target.splits)
    rows = [np.flatnonzero(names == name) for name in ("train", "test")]
    train, test = (Split(each, labels[each]) for each in rows)
    return target.features.astype(np.float16), train, test


def drawn(train: Split, n: int, seed: int, draw: int) -> np.ndarray:
    order = np.random.default_rng((seed, draw)).permutation(len(train))
    return np.concatenate([order[train.labels[order] == c][:n] for c in np.unique(train.labels)])


def test_agrees_with_one_machine_for_each_class(blobs: Fixture) -> None:
    features, train, test = splits_of(blobs(spread=1.5, num_classes=8))
    unit = normalize(features.astype(np.float64))
    scores = LowShot(shots=[4, 16], draws=3, seed=7).evaluate(features, train, test, "cpu")
    for n, score in zip([4, 16], scores, strict=True):
        top1 = []
        for draw in range(3):
            chosen = drawn(train, n, 7, draw)
            columns = []
            for label in range(8):
                machine = LinearSVC(class_weight={1: 2, -1: 1}, max_iter=2000, tol=1e-6, random_state=0)
                machine.fit(unit[train.rows[chosen]], np.where(train.labels[chosen] == label, 1, -1))
                columns.append(machine.decision_function(unit[test.rows]))
            top1.append((np.argmax(columns, axis=0) == test.labels).mean())
        assert 0.2 < np.mean(top1) < 0.95
        assert score.details["top1"] == pytest.approx(top1, abs=0.002)
        low, high = t.interval(0.95, 2, loc=score.value, scale=np.std(score.details["top1"], ddof=1) / 3**0.5)
        assert (score.value, score.ci_low, score.ci_high) == pytest.approx(
            (np.mean(score.details["top1"]), max(low, 0), min(high, 1))
        )


def test_rows_follow_samples_and_chunks_change_nothing(
    measure: Fixture, blobs: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, protocol = blobs(spread=0.5), LowShot(**QUICK)
    whole = measure(protocol, target.features, target.labels, target.splits)
    assert whole.value("top1_n8") > 0.95
    assert whole.value("top1_n8") > whole.value("top1_n1") > 0.5
    monkeypatch.setattr(low_shot, "CHUNK", 7)
    assert measure(protocol, target.features, target.labels, target.splits).written == whole.written
    for split in ("train", "test"):
        rolled = measure(protocol, target.features, target.labels_rolled_in(split), target.splits)
        assert rolled.value("top1_n8") < 0.5


def test_writes_a_score_for_each_number_of_images(measure: Fixture, blobs: Fixture) -> None:
    target = blobs(spread=1.0)
    result = measure(LowShot(**QUICK), target.features, target.labels, target.splits)
    assert list(result.facts) == ["top1_n1", "top1_n8"]
    for score in result.metrics:
        assert (score["protocol"], score["n_test"]) == ("low_shot", target.splits.count("test"))
        assert 0 <= score["ci_low"] < score["value"] < score["ci_high"] <= 1
        details = score["details"]
        assert details["std"] == pytest.approx(np.std(details["top1"], ddof=1))
        assert details.items() >= {**QUICK, "c": 1.0, "seed": 0, "unconverged": 0}.items()
        assert details["interval"] == "Student's t over 3 draws of training images"


def test_the_seed_alone_decides(measure: Fixture, blobs: Fixture) -> None:
    target = blobs(spread=1.0)
    np.random.seed(1)
    first = measure(LowShot(seed=3, **QUICK), target.features, target.labels, target.splits)
    np.random.seed(2)
    again = measure(LowShot(seed=3, **QUICK), target.features, target.labels, target.splits)
    other = measure(LowShot(seed=4, **QUICK), target.features, target.labels, target.splits)
    assert first.written == again.written
    assert first.value("top1_n1") != other.value("top1_n1")
    assert len(set(first.metrics[0]["details"]["top1"])) > 1  # one draw is not another


def test_sees_n_images_of_each_class_and_no_others(blobs: Fixture) -> None:
    features, train, test = splits_of(blobs(spread=1.0))
    protocol = LowShot(shots=[2, 5], draws=2, seed=1)
    expected = protocol.evaluate(features, train, test, "cpu")
    seen = np.concatenate([drawn(train, 5, 1, draw) for draw in range(2)])
    features[np.delete(train.rows, seen)] = np.nan
    assert protocol.evaluate(features, train, test, "cpu") == expected
    features[train.rows[drawn(train, 2, 1, 0)[-1]]] = np.nan
    with pytest.raises(DataError, match="holds NaN or infinite"):
        LowShot(shots=[2], draws=2, seed=1).evaluate(features, train, test, "cpu")


def test_counts_fits_that_did_not_converge_and_warns_of_none(
    blobs: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_svm, "MAX_ITER", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = LowShot(**QUICK).evaluate(*splits_of(blobs(spread=2.0)), "cpu")
    assert [score.details["unconverged"] for score in scores] == [3, 3]


def test_refuses_a_class_of_fewer_images_than_shots(make_index: Fixture, measure: Fixture) -> None:
    labels, splits = ["a", "a", "a", "b", "b", "b", "a"], ["train"] * 6 + ["test"]
    Transfer(protocol=LowShot(shots=[1, 3])).check(data=make_index(labels, splits))
    key = r"transfer\.low_shot\.protocol\.shots"
    with pytest.raises(
        ConfigError, match=rf"{key}=\[1, 4\]: root=images has 3 samples of class a .* 4 are drawn"
    ):
        Transfer(protocol=LowShot(shots=[1, 4])).check(data=make_index(labels, splits))
    with pytest.raises(ConfigError, match=rf"{key}=\[3\]: .* has 2 samples of class b"):
        measure(LowShot(shots=[3]), np.eye(7), labels, splits, skipped=[4])


@pytest.mark.parametrize("scale", ["demo", "paper"])
def test_yaml_builds(make_index: Fixture, from_yaml: Fixture, scale: str) -> None:
    stage = from_yaml("low_shot", scale)
    assert stage.protocol == LowShot(seed=5)
    stage.check(data=make_index(["a", "b"] * 40, ["train", "train", "val", "val"] * 20))


@pytest.mark.parametrize(
    "setting", [{"shots": []}, {"shots": [0]}, {"shots": [2, 2]}, {"draws": 1}, {"c": 0.0}, {"seed": -1}]
)
def test_settings_are_checked(setting: dict[str, Any]) -> None:
    node = {"_target_": "cf_lightning.transfer.low_shot.LowShot", **setting}
    with pytest.raises(UserError, match=rf"transfer\.low_shot\.protocol\.{next(iter(setting))}"):
        build(node, "transfer.low_shot.protocol")
