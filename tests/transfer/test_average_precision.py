import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve
from torch import from_numpy
from torchmetrics.functional.classification import multilabel_average_precision

from cf_lightning.transfer import bootstrap
from cf_lightning.transfer.average_precision import RankedClass, mean_average_precision


def drawn(num_samples: int, num_classes: int = 3, share: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    labels = (draw.random((num_samples, num_classes)) < share).astype(np.int8)
    return draw.normal(size=labels.shape) + 1.5 * labels, labels


def area(scores: np.ndarray, labels: np.ndarray, counts: np.ndarray | None = None) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores, sample_weight=counts)
    return float(-np.diff(recall) @ np.maximum.accumulate(precision)[:-1])


def ap(scores: list[float], labels: list[int]) -> float:
    column = np.array(scores)[:, None], np.array(labels, np.int8)[:, None]
    score = mean_average_precision(*column, details={})
    assert score.details["ap"] == [round(score.value, 4)]
    return score.value


def test_by_hand() -> None:
    assert ap([4, 3, 2, 1], [1, 1, 0, 0]) == 1.0
    assert ap([4, 3, 2, 1], [0, 0, 0, 1]) == 1 / 4
    assert ap([4, 3, 2, 1], [1, 0, 1, 0]) == 1 / 2 + 1 / 2 * 2 / 3
    assert ap([5, 4, 3, 2, 1], [0, 1, 1, 1, 0]) == 3 / 4  # the precision of 3/4 at full recall holds before
    assert ap([3, 3, 2, 2], [1, 0, 0, 1]) == 1 / 2  # equal scores enter together, whatever their order
    assert ap([3, 3, 2, 2], [0, 1, 1, 0]) == 1 / 2


def test_difficult_samples_are_not_there() -> None:
    assert ap([5, 4, 3, 2], [-1, 1, -1, 0]) == 1.0
    scores, labels = drawn(400)
    labels[:100, 0] = -1
    labels[200:300, 1] = -1
    score = mean_average_precision(scores, labels, details={"k": 1})
    expected = [
        area(scores[keep, number], labels[keep, number]) for number, keep in enumerate((labels >= 0).T)
    ]
    assert score.value == pytest.approx(np.mean(expected), abs=1e-12)
    assert (score.metric, score.n_test) == ("map", 400)
    assert score.details == {"k": 1, "ap": np.round(expected, 4).tolist()}


@pytest.mark.parametrize("decimals", [0, 1, 9])  # of scores: many ties, some, none
def test_each_draw_is_scikit_learns_curve_under_an_envelope(decimals: int) -> None:
    scores, labels = drawn(300)
    scores = scores.round(decimals)
    counts = np.concatenate([np.ones((300, 1), np.int32), *bootstrap.resampled(300)], 1)
    assert (counts.sum(axis=0) == 300).all()
    for number in range(3):
        column = scores[:, number], labels[:, number]
        ours = RankedClass.of(*column).average_precision(counts[:, :20])
        expected = [area(*column, counts[:, draw]) for draw in range(20)]
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


def test_agrees_with_libraries_that_do_not_interpolate_where_samples_are_many() -> None:
    scores, labels = drawn(20_000)
    ours = mean_average_precision(scores, labels, details={}).value
    expected = average_precision_score(labels, scores)
    assert 0.5 < expected < 0.9
    assert 0 < ours - expected < 0.002
    other = multilabel_average_precision(from_numpy(scores).sigmoid(), from_numpy(labels).long(), 3)
    assert ours == pytest.approx(float(other), abs=0.002)


def test_the_size_of_blocks_changes_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = drawn(300)
    first = mean_average_precision(scores, labels, details={})
    assert 0 < first.ci_low < first.value < first.ci_high < 1
    monkeypatch.setattr(bootstrap, "CELLS", 7 * 300)  # 7 draws at a time, and a rest
    assert mean_average_precision(scores, labels, details={}) == first


def test_the_interval_is_as_wide_as_scores_of_other_samples_differ() -> None:
    scores, labels = drawn(300 * 100)
    parts = zip(np.split(scores, 100), np.split(labels, 100), strict=True)
    measured = [mean_average_precision(*part, details={}) for part in parts]
    whole = np.mean([score.value for score in measured])
    covered = np.mean([score.ci_low <= whole <= score.ci_high for score in measured])
    assert 0.88 < covered < 1.0


def test_a_draw_without_a_positive_leaves_the_class_out() -> None:
    score = mean_average_precision(np.arange(6.0)[:, None], np.eye(6, dtype=np.int8)[:, 4:5], {})
    assert score.value == 1 / 2
    assert np.isfinite([score.ci_low, score.ci_high]).all()


def test_the_interval_holds_the_value_where_classes_are_rare() -> None:
    generator = np.random.default_rng(0)
    labels = np.zeros((400, 24), dtype=np.int8)
    labels[np.arange(400), generator.permutation(400) % 24] = 1  # 17 positives each
    score = mean_average_precision(generator.normal(size=labels.shape), labels, {})
    assert score.ci_low < score.value < score.ci_high
