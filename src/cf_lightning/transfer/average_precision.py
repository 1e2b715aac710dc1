"""Mean average precision: how well each class's scores put its samples before the others."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cf_lightning.transfer.base import Score
from cf_lightning.transfer.bootstrap import percentiles, resampled


@dataclass(frozen=True)
class RankedClass:
    """The samples of one class by descending score, up to its last positive; those after it do not matter.

    A step is what lies between two thresholds that let in a positive: samples of one score enter together.

    Attributes:
        samples: (m,) int64: positions in the test split.
        starts: (s,) int64: where in ``samples`` a step begins.
        positives: (p,) int64: the positives among them, positions in the test split.
        positive_starts: (s,) int64: where in ``positives`` a step begins.
    """

    samples: np.ndarray
    starts: np.ndarray
    positives: np.ndarray
    positive_starts: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, labels: np.ndarray) -> "RankedClass":
        """Sort (n,) scores with their labels 1, 0 or -1, which is left out; one is 1."""
        samples = np.flatnonzero(labels >= 0)
        samples = samples[np.argsort(-scores[samples], kind="stable")]
        ranked, hits = scores[samples], labels[samples] == 1
        ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) + 1  # after the last of each score
        found = np.cumsum(hits)[ends - 1]
        found, first = np.unique(found, return_index=True)  # a score without a positive is no end of a step
        ends, found = ends[first][found > 0], found[found > 0]
        starts, positive_starts = (np.append(0, end[:-1]) for end in (ends, found))
        return cls(samples[: ends[-1]], starts, samples[hits], positive_starts)

    def average_precision(self, counts: np.ndarray) -> np.ndarray:
        """(b,) float64: the area for each column of counts, (n, b), how often a sample is there.

        NaN where no positive is.
        """
        found = np.add.reduceat(counts[self.positives], self.positive_starts)
        passed = np.add.reduceat(counts[self.samples], self.starts).cumsum(axis=0)
        precision = found.cumsum(axis=0) / np.maximum(passed, 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        with np.errstate(invalid="ignore"):
            return np.asarray((envelope * found).sum(axis=0) / found.sum(axis=0))


def mean_average_precision(
    scores: np.ndarray, labels: np.ndarray, details: dict[str, Any], suffix: str = ""
) -> Score:
    """The mean over classes of the area under the interpolated precision-recall curve, as VOC from 2010 on.

    Precision at a recall is the highest at that recall or a larger one. Scikit-learn's and torchmetrics'
    average precision, which do not interpolate, are never higher: on normal scores they are lower by less
    than 0.2 points where a class has a thousand positives, by half a point where it has a hundred or ten.

    The interval is that of a percentile bootstrap over test samples, the same draws for all classes, moved by
    its bias: positives that are drawn twice stand in one place, so that draws of classes with few of them
    score higher than the sample. A class of which a draw has no positive is left out of that draw's mean.

    Args:
        scores: (n, C) float, higher is better.
        labels: (n, C) int8 as in ``Split``; each class has a positive.
        details: stored with the score, beside ``ap``, the average precision of each class.
        suffix: of the metric's name, where something is measured in several ways.
    """
    rankings = [RankedClass.of(*columns) for columns in zip(scores.T, labels.T, strict=True)]
    each = _average_precisions(rankings, np.ones((len(scores), 1), np.int32))[:, 0]
    blocks = [_mean(_average_precisions(rankings, counts)) for counts in resampled(len(scores))]
    draws = np.concatenate(blocks)
    draws += each.mean() - draws.mean()
    low, high = percentiles(draws.clip(0, 1))
    details = details | {"ap": each.round(4).tolist()}
    return Score(f"map{suffix}", float(each.mean()), low, high, len(scores), draws, details)


def map_of_those_present(scores: np.ndarray, labels: np.ndarray) -> float:
    """The same mean alone, over the classes that have a positive in (n, C) labels; 0 where none has."""
    pairs = [(score, label) for score, label in zip(scores.T, labels.T, strict=True) if (label == 1).any()]
    once = np.ones((len(scores), 1), np.int32)
    return float(np.mean([RankedClass.of(*pair).average_precision(once)[0] for pair in pairs] or [0.0]))


def _average_precisions(rankings: list[RankedClass], counts: np.ndarray) -> np.ndarray:
    """(C, b) float64."""
    return np.stack([ranking.average_precision(counts) for ranking in rankings])


def _mean(precisions: np.ndarray) -> np.ndarray:
    """(b,) float64: the mean over the classes, (C, b), that are not NaN; 0 where all are."""
    return np.asarray(np.nansum(precisions, axis=0) / np.isfinite(precisions).sum(axis=0).clip(1))
