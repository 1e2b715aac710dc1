"""Top-1 and top-5 of samples that have one label."""

from typing import TYPE_CHECKING, Any

import numpy as np

from cf_lightning.transfer.base import Score
from cf_lightning.transfer.bootstrap import drawn_means

if TYPE_CHECKING:
    from torch import Tensor


def rank_of_truth(scores: "Tensor", labels: "Tensor") -> "Tensor":
    """How many classes are placed before the true one; 0 is a hit at top-1.

    Ties go to the lower class. A score of NaN never places its sample's class first.

    Args:
        scores: (n, C), higher is better.
        labels: (n,) int64.

    Returns:
        (n,) int64 in [0, C].
    """
    import torch

    true = scores.gather(1, labels[:, None])
    classes = torch.arange(scores.shape[1], device=scores.device)
    behind = (scores < true) | ((scores == true) & (classes >= labels[:, None]))
    return scores.shape[1] - behind.sum(dim=1)


def accuracies(ranks: np.ndarray, num_classes: int, details: dict[str, Any], suffix: str = "") -> list[Score]:
    """Top-1, and top-5 where there are more than 5 classes, each with its interval.

    Args:
        ranks: (n,) from ``rank_of_truth``.
        num_classes: C.
        details: stored with each score.
        suffix: of the metrics' names, where something is measured in several ways.
    """
    depths = {"top1": 1, "top5": 5} if num_classes > 5 else {"top1": 1}
    return hits_within(ranks, {f"{metric}{suffix}": depth for metric, depth in depths.items()}, details)


def hits_within(ranks: np.ndarray, depths: dict[str, int], details: dict[str, Any]) -> list[Score]:
    """The share of (n,) ranks below a depth, for each metric, with its Wilson interval (Wilson 1927)."""
    from scipy.stats import binomtest

    hits = ranks[:, None] < np.array([*depths.values()])
    scores = []
    for metric, hit, draws in zip(depths, hits.T, drawn_means(hits), strict=True):
        interval = binomtest(int(hit.sum()), len(hit)).proportion_ci(0.95, method="wilson")
        ends = float(interval.low), float(interval.high)
        scores.append(Score(metric, float(hit.mean()), *ends, len(hit), draws, details))
    return scores
