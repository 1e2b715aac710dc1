from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torchmetrics.functional.retrieval import retrieval_hit_rate

from cf_lightning.config import build
from cf_lightning.errors import ConfigError
from cf_lightning.transfer import retrieval
from cf_lightning.transfer.retrieval import Retrieval
from cf_lightning.transfer.splits import Split

Fixture = Callable[..., Any]
TARGET = "cf_lightning.transfer.retrieval.Retrieval"


def unit(degrees: list[float]) -> np.ndarray:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_by_hand() -> None:
    features = unit([0, 10, 20, 40, 1, 39])
    train, test = Split(np.arange(4), np.array([0, 1, 0, 1])), Split(np.arange(4, 6), np.array([0, 0]))
    # the first query sees 0 1 0 1, the second 1 0 1 0
    scores = {score.metric: score for score in Retrieval(ks=[1, 2]).evaluate(features, train, test, "cpu")}
    assert scores["recall_at_1"].value == 0.5
    assert scores["recall_at_2"].value == 1.0
    assert scores["query_map"].value == pytest.approx(((1 + 2 / 3) / 2 + (1 / 2 + 2 / 4) / 2) / 2)
    assert scores["query_map"].details["queries_left_out"] == 0


@pytest.mark.parametrize("several", [False, True])
def test_agrees_with_other_libraries_query_by_query(several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(260, 6)).astype(np.float32)
    labels: np.ndarray = draw.integers(5, size=260)
    if several:
        labels = (draw.random((260, 4)) < 0.25).astype(np.int8)
        labels[200, :] = [-1, 0, 0, 0]  # nothing but something difficult
    train, test = Split(np.arange(200), labels[:200]), Split(np.arange(200, 260), labels[200:])
    whole = Retrieval().evaluate(features, train, test, "cpu")
    monkeypatch.setattr(retrieval, "CELLS", 7 * 200)  # seven queries at a time, and a rest
    assert Retrieval().evaluate(features, train, test, "cpu") == whole

    normed = torch.nn.functional.normalize(torch.from_numpy(features))
    precisions, hits = [], []
    for row in range(200, 260):
        same = ((labels[:200] == 1) & (labels[row] == 1)).any(1) if several else labels[:200] == labels[row]
        cosines, relevant = normed[:200] @ normed[row], torch.from_numpy(same)
        if relevant.any():
            precisions.append(average_precision_score(same, cosines.numpy()))
            hits.append(float(retrieval_hit_rate(cosines, relevant, top_k=5)))
    scores = {score.metric: score for score in whole}
    assert scores["query_map"].value == pytest.approx(np.mean(precisions), abs=1e-5)
    assert scores["recall_at_5"].value == pytest.approx(np.mean(hits))
    assert (
        scores["query_map"].n_test == len(precisions) == 60 - scores["query_map"].details["queries_left_out"]
    )
    assert scores["query_map"].ci_low < scores["query_map"].value < scores["query_map"].ci_high


def test_the_yaml_and_its_bad_settings(from_yaml: Fixture) -> None:
    for scale in ("demo", "paper"):
        assert from_yaml("retrieval", scale).protocol == Retrieval()
    with pytest.raises(ConfigError, match=r"transfer.retrieval.protocol.ks.*stands there twice"):
        build({"_target_": TARGET, "ks": [1, 1]}, "transfer.retrieval.protocol")
