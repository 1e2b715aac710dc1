"""Protocols on targets whose samples are seen in several views."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cf_lightning.rows import describe_rows
from cf_lightning.transfer import linear, tally
from cf_lightning.transfer.base import Score
from cf_lightning.transfer.knn import KNN
from cf_lightning.transfer.linear import LinearProbe
from cf_lightning.transfer.probes import Probes
from cf_lightning.transfer.splits import Split

Fixture = Callable[..., Any]
VIEWS = 3


class Fitted:
    """The last probe that was fitted, and the ranks that it gave."""

    probe: Probes
    ranks: np.ndarray


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> Fitted:
    found = Fitted()
    init, accuracies = Probes.__init__, tally.accuracies

    def note_probe(self: Probes, *args: Any) -> None:
        init(self, *args)
        found.probe = self

    def note_ranks(ranks: np.ndarray, *args: Any) -> list[Score]:
        found.ranks = ranks
        return accuracies(ranks, *args)

    monkeypatch.setattr(Probes, "__init__", note_probe)
    monkeypatch.setattr(tally, "accuracies", note_ranks)
    return found


@pytest.fixture
def videos() -> tuple[np.ndarray, Split, Split]:
    """Features (90, 3, 8) of six classes that overlap, and the rows of two splits, interleaved."""
    draw = np.random.default_rng(0)
    labels = draw.integers(6, size=90)
    centres = draw.normal(size=(6, 1, 8))
    features = (centres[labels] + 1.5 * draw.normal(size=(90, VIEWS, 8))).astype(np.float32)
    rows = np.arange(90)
    train, test = rows[rows % 3 > 0], rows[rows % 3 == 0]
    return features, Split(train, labels[train]), Split(test, labels[test])


def evaluate(features: np.ndarray, train: Split, test: Split, **settings: Any) -> list[Score]:
    return LinearProbe(**{"epochs": 8, "lr": 0.1, "batch_size": 32} | settings).evaluate(
        features, train, test, "cpu"
    )


@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_the_score_of_a_video_is_the_mean_of_the_softmax_of_its_views(
    chunk: int, fitted: Fitted, videos: tuple[np.ndarray, Split, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "CHUNK", chunk)
    features, train, test = videos
    top1, top5 = evaluate(features, train, test)

    by_hand = []
    with torch.inference_mode():
        for row, label in zip(test.rows.tolist(), test.labels.tolist(), strict=True):
            clips = [fitted.probe(torch.from_numpy(features[row, view])[None])[0, 0] for view in range(VIEWS)]
            mean = torch.stack([scores.exp() / scores.exp().sum() for scores in clips]).mean(0)
            by_hand.append(int((mean > mean[label]).sum()))
    assert fitted.ranks.tolist() == by_hand
    assert len(set(by_hand)) > 3, "neither all right nor all wrong"
    assert (top1.value, top5.value) == (by_hand.count(0) / 30, 1 - by_hand.count(5) / 30)
    assert top1.n_test == 30


def test_each_view_is_a_training_sample_with_the_label_of_its_video(
    fitted: Fitted, videos: tuple[np.ndarray, Split, Split]
) -> None:
    features, train, test = videos
    evaluate(features, train, test)
    of_views = fitted.probe.state_dict()

    rows = [VIEWS * row + view for row in train.rows.tolist() for view in range(VIEWS)]
    labels = [label for label in train.labels.tolist() for _ in range(VIEWS)]
    flat = np.stack([features[row, view] for row in range(90) for view in range(VIEWS)])
    evaluate(flat, Split(np.array(rows), np.array(labels)), Split(VIEWS * test.rows, test.labels))

    for name, tensor in fitted.probe.state_dict().items():
        assert torch.equal(tensor, of_views[name]), name


def test_one_view_is_no_axis(fitted: Fitted, videos: tuple[np.ndarray, Split, Split]) -> None:
    features, train, test = videos
    without = evaluate(features[:, 0], train, test)
    ranks = fitted.ranks

    assert evaluate(features[:, :1], train, test) == without
    assert np.array_equal(fitted.ranks, ranks)


def test_views_that_are_equal_say_what_one_of_them_says(
    fitted: Fitted, videos: tuple[np.ndarray, Split, Split]
) -> None:
    features, train, test = videos
    all_at_once = {"batch_size": 1024, "lr": 0.05}  # the mean gradient of equal views is that of one
    evaluate(features[:, 0], train, test, **all_at_once)
    one, ranks = fitted.probe.state_dict(), fitted.ranks

    evaluate(features[:, :1].repeat(VIEWS, 1), train, test, **all_at_once)

    for name in ("weights.0", "biases.0", "scales.0", "shifts.0", "norm.running_mean"):
        torch.testing.assert_close(fitted.probe.state_dict()[name], one[name], rtol=1e-4, atol=1e-5)
    assert np.array_equal(fitted.ranks, ranks)


def test_the_linear_probe_reads_the_views_and_knn_their_mean(
    measure: Fixture, blobs: Fixture, make_index: Fixture, tmp_path: Path
) -> None:
    target = blobs(spread=0.1, num_samples=200)
    junk = np.random.default_rng(1).normal(size=target.features.shape)
    protocols = (LinearProbe(epochs=10, lr=0.1), KNN(k=5))
    before = [measure(one, target.features, target.labels, target.splits) for one in protocols]

    views = np.stack([target.features] * VIEWS, axis=1)
    np.save(tmp_path / "views.npy", views.astype(np.float16))
    describe_rows(tmp_path, "views", make_index(target.labels, target.splits))
    probe, knn = (measure(one, junk, target.labels, target.splits) for one in protocols)

    assert [one.value() for one in before] == [1.0, 1.0]
    assert probe.value() == 1.0
    assert knn.value() < 0.5
    assert probe.metrics[0]["details"]["views"] == VIEWS
    assert probe.metrics[0]["details"]["n_train"] == target.splits.count("train")
    assert probe.metrics[0]["n_test"] == target.splits.count("test")
    assert "views" not in {**knn.metrics[0]["details"], **before[0].metrics[0]["details"]}


def test_no_view_of_a_skipped_video_takes_part(
    measure: Fixture, blobs: Fixture, make_index: Fixture, tmp_path: Path
) -> None:
    target = blobs(spread=0.1, num_samples=200)
    skipped = [target.splits.index("train"), target.splits.index("test")]
    views = np.stack([target.features] * VIEWS, axis=1)
    views[skipped] = np.nan
    np.save(tmp_path / "views.npy", views.astype(np.float16))
    describe_rows(tmp_path, "views", make_index(target.labels, target.splits))

    result = measure(LinearProbe(epochs=10, lr=0.1), target.features, target.labels, target.splits, skipped)

    assert result.value() == 1.0
    assert result.metrics[0]["n_test"] == target.splits.count("test") - 1
    assert result.metrics[0]["details"]["skipped"] == 2
