"""Scores of classes, batch by batch, into the metrics of the target."""

from typing import TYPE_CHECKING, Any

import numpy as np

from cf_lightning.transfer.accuracy import accuracies, rank_of_truth
from cf_lightning.transfer.average_precision import mean_average_precision
from cf_lightning.transfer.base import Score
from cf_lightning.transfer.splits import Split

if TYPE_CHECKING:
    from torch import Tensor


class Tally:
    """Top-1 and top-5 where samples have one label, mAP where they may have several.

    Of one label only a rank is kept, so that a million samples of ten thousand classes fit into memory.

    Args:
        test: the samples, each of which is added once, in this order.
        num_classes: C.
    """

    def __init__(self, test: Split, num_classes: int) -> None:
        self.test, self.num_classes = test, num_classes
        self._kept: list[np.ndarray] = []  # (b,) ranks or (b, C) scores
        self._added = 0

    def add(self, scores: "Tensor") -> None:
        """The scores, (b, C) float, of the next b samples; higher is better."""
        import torch

        labels = self.test.labels[self._added : self._added + len(scores)]
        if labels.ndim == 1:
            scores = rank_of_truth(scores, torch.from_numpy(labels).to(scores.device))
        self._kept.append(scores.cpu().numpy())
        self._added += len(scores)

    def scores(self, details: dict[str, Any], suffix: str = "") -> list[Score]:
        """What is measured, when every sample was added; see ``accuracies`` for the arguments."""
        if self._added != len(self.test):
            raise ValueError(f"{self._added} of {len(self.test)} test samples were added")
        kept = np.concatenate(self._kept)
        if kept.ndim == 1:
            return accuracies(kept, self.num_classes, details, suffix)
        return [mean_average_precision(kept, self.test.labels, details, suffix)]
