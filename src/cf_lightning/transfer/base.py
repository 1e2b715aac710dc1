"""What every transfer protocol is: something that measures frozen features on a labelled target."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cf_lightning.config import Component
from cf_lightning.data.index import Index
from cf_lightning.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Split:
    """The samples of one split that have one label each.

    Attributes:
        rows: (n,) int64, ascending: where a sample stands in the index and in the features.
        labels: (n,) int64: its class, the position in ``Index.classes``.
    """

    rows: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def views(self, number: int) -> "Split":
        """Every view of every sample, as rows of (N * V, D) features; V is ``number``."""
        rows = self.rows[:, None] * number + np.arange(number)
        return Split(rows.ravel(), self.labels.repeat(number))


@dataclass(frozen=True)
class Score:
    """One measured number with its 95 % interval over the test samples, as fractions in [0, 1].

    Attributes:
        metric: ``top1``, ``top5``, ...
        value: the measured fraction.
        ci_low: the interval's lower end.
        ci_high: its upper end.
        n_test: the samples it was measured on.
        details: the settings behind it.
    """

    metric: str
    value: float
    ci_low: float
    ci_high: float
    n_test: int
    details: dict[str, Any]


class Protocol(Component, ABC):
    """A way to measure features whose trunk is never touched.

    Attributes:
        NAME: the name in the result table.
        OF_VIEWS: whether it looks at every view of a sample by itself, where there are several; else at
            their mean.
    """

    NAME: ClassVar[str]
    OF_VIEWS: ClassVar[bool] = False

    def splits(self, index: Index, skipped: np.ndarray) -> tuple[Split, Split]:
        """What the protocol learns from and what it is measured on; refuses what cannot work.

        Called before anything runs, and again with the rows that turned out undecodable.

        Args:
            index: the target.
            skipped: (m,) int64: rows without features.

        Raises:
            UserError: the target or a setting does not fit this protocol.
        """
        return single_label_splits(index, skipped)

    @abstractmethod
    def evaluate(self, features: np.ndarray, train: Split, test: Split, device: str) -> list[Score]:
        """Learn from ``train`` and measure on ``test``.

        Args:
            features: (N, D) float16 or float32, row i of the index; usually mapped from disk. Of a target
                whose samples have several views (N, V, D), if the protocol is ``OF_VIEWS``.
            train: what ``splits`` returned first.
            test: what it returned second.
            device: ``cpu`` or ``cuda``.

        Returns:
            The protocol's scores, the most important one first.
        """


def single_label_splits(index: Index, skipped: np.ndarray) -> tuple[Split, Split]:
    """The split train and the split that is measured, without rows that are skipped or have no label.

    Raises:
        DataError: a row has several labels, a split is empty, there is a single class, or a class is
            measured that is not in train.
    """
    labels = index.single_labels()
    labels[skipped] = -1
    splits = []
    for name in ("train", index.test_split):
        rows = index.rows(name)
        rows = rows[labels[rows] >= 0]
        if not len(rows):
            raise DataError(
                f"root={index.origin}: no sample with a label in split {name}; a target needs some"
            )
        splits.append(Split(rows, labels[rows]))
    train, test = splits
    seen = np.unique(train.labels)
    if len(seen) < 2:
        only = index.classes[seen[0]]
        raise DataError(
            f"root={index.origin}: split train has one class ({only}); a target needs two or more"
        )
    unseen = np.setdiff1d(test.labels, seen)
    if len(unseen):
        names = ", ".join(index.classes[label] for label in unseen[:3]) + (", ..." if len(unseen) > 3 else "")
        raise DataError(
            f"root={index.origin}: {len(unseen)} classes of split {index.test_split} have no sample in train "
            f"({names}); move some there or leave these classes out"
        )
    return train, test


def load(features: np.ndarray, rows: np.ndarray, device: str) -> "Tensor":
    """(n, D) float32 features of these rows on a device; the matrix itself stays where it is.

    Raises:
        DataError: a value is NaN or infinite.
    """
    import torch

    batch = torch.from_numpy(np.asarray(features[rows])).to(device).float()
    finite = batch.isfinite().all(dim=1).cpu()
    if not finite.all():
        row = rows[int(finite.int().argmin())]
        raise DataError(
            f"the features' row {row} holds NaN or infinite values; extract in float32 or mend the trunk"
        )
    return batch


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


def accuracies(ranks: np.ndarray, num_classes: int, details: dict[str, Any]) -> list[Score]:
    """Top-1, and top-5 where there are more than 5 classes.

    Args:
        ranks: (n,) from ``rank_of_truth``.
        num_classes: C.
        details: stored with each score.
    """
    depths = {"top1": 1, "top5": 5} if num_classes > 5 else {"top1": 1}
    return [accuracy(metric, ranks < depth, details) for metric, depth in depths.items()]


def accuracy(metric: str, hits: np.ndarray, details: dict[str, Any]) -> Score:
    """The share of hits, (n,) bool, with its Wilson score interval (Wilson 1927)."""
    from scipy.stats import binomtest

    num_hits, num_test = int(hits.sum()), len(hits)
    interval = binomtest(num_hits, num_test).proportion_ci(confidence_level=0.95, method="wilson")
    return Score(metric, num_hits / num_test, float(interval.low), float(interval.high), num_test, details)
