"""Frozen protocols where samples have several labels, against other libraries on the same features."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import normalize
from torchmetrics.functional.classification import multilabel_average_precision

from cf_lightning.transfer.knn import KNN
from cf_lightning.transfer.logreg import LogisticRegression
from cf_lightning.transfer.low_shot import LowShot, _drawn
from cf_lightning.transfer.splits import Split

Fixture = Callable[..., Any]


class Objects:
    """Features of samples that have some of three classes."""

    def __init__(self, num_samples: int = 12_000) -> None:
        draw = np.random.default_rng(0)
        self.truth = draw.random((num_samples, 3)) < 0.35
        signal = self.truth @ draw.normal(size=(3, 8))
        self.features = (signal + draw.normal(size=(num_samples, 8))).astype(np.float16)
        self.names = [" ".join(np.array(["a", "b", "c"])[row]) or None for row in self.truth]
        self.splits = draw.choice(["train", "test"], size=num_samples).tolist()

    def rows(self, split: str) -> list[int]:
        return [row for row, name in enumerate(self.names) if name and self.splits[row] == split]

    def normed(self, split: str) -> np.ndarray:
        return np.asarray(normalize(self.features[self.rows(split)].astype(float)))

    def measured(self, measure: Fixture, protocol: Any) -> Any:
        return measure(protocol, self.features, self.names, self.splits)

    def expected(self, scores: np.ndarray) -> float:
        truth = torch.from_numpy(self.truth[self.rows("test")]).long()
        return float(multilabel_average_precision(torch.from_numpy(scores).sigmoid(), truth, 3))


def test_logistic_regression_is_scikit_learns_one_versus_rest(measure: Fixture) -> None:
    objects = Objects()
    result = objects.measured(measure, LogisticRegression(cs=[0.01, 1]))
    (score,) = result.metrics
    train, test = objects.normed("train"), objects.normed("test")
    reference = OneVsRestClassifier(Reference(C=score["details"]["C"], max_iter=1000))
    logits = reference.fit(train, objects.truth[objects.rows("train")]).decision_function(test)
    assert score["metric"] == "map"
    assert score["value"] == pytest.approx(objects.expected(logits), abs=0.002)
    assert len(score["details"]["val_map"]) == 2
    assert score["value"] > 0.6


def test_neighbours_vote_for_each_class_that_they_have(measure: Fixture) -> None:
    objects = Objects()
    (score,) = objects.measured(measure, KNN(k=50, temperature=0.5)).metrics
    train, test = objects.normed("train"), objects.normed("test")
    cosines = test @ train.T
    nearest = np.argsort(-cosines, axis=1)[:, :50]
    weights = np.exp(np.take_along_axis(cosines, nearest, axis=1) / 0.5)
    weights /= weights.sum(axis=1, keepdims=True)
    shares = (weights[:, :, None] * objects.truth[objects.rows("train")][nearest]).sum(axis=1)
    assert (score["metric"], score["n_test"]) == ("map", len(objects.rows("test")))
    assert score["value"] == pytest.approx(objects.expected(shares), abs=0.002)


def test_several_k_are_those_alone(measure: Fixture, blobs: Fixture) -> None:
    target = blobs(spread=2.0, num_classes=7)
    together = measure(KNN(k=[5, 50]), target.features, target.labels, target.splits).metrics
    assert [score["metric"] for score in together] == ["top1_k5", "top5_k5", "top1_k50", "top5_k50"]
    for k in (5, 50):
        alone = measure(KNN(k=k), target.features, target.labels, target.splits).metrics
        of_k = [score for score in together if score["metric"].endswith(f"_k{k}")]
        assert [score["value"] for score in of_k] == [score["value"] for score in alone]
        assert {score["details"]["k"] for score in of_k} == {k}


def test_low_shot_draws_n_of_each_class_and_smaller_draws_are_parts() -> None:
    labels = (np.random.default_rng(0).random((200, 3)) < 0.3).astype(np.int8)
    labels[:20] *= -1  # difficult ones are none
    before: set[int] = set()
    for n in (1, 4, 16):
        drawn = _drawn(labels, n, (0, 0))
        assert len(set(drawn.tolist())) == len(drawn) <= 6 * n
        assert ((labels[drawn] == 1).sum(axis=0) >= n).all()
        assert before <= set(drawn.tolist())
        before = set(drawn.tolist())
    assert before != set(_drawn(labels, 16, (0, 1)).tolist())


def test_low_shot_is_the_mean_map_of_its_draws(measure: Fixture) -> None:
    objects = Objects(900)
    few, many = objects.measured(measure, LowShot(shots=[1, 64], draws=3)).metrics
    assert (few["metric"], many["metric"]) == ("map_n1", "map_n64")
    assert few["value"] == pytest.approx(np.mean(few["details"]["map"]))
    assert few["value"] + 0.05 < many["value"]


def test_each_class_has_a_positive_in_the_split_that_is_drawn() -> None:
    split = Split(np.arange(2), np.array([[1, 0], [0, 1]], np.int8))
    assert sorted(_drawn(split.labels, 1, (0, 0)).tolist()) == [0, 1]
