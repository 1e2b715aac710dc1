"""The logits of a batch, as a loss asks for them."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from cf_lightning.heads.labels import Labels

MASKED = -1e30  # the logit of a class that takes no part; finite, so that no gradient is nan


@dataclass(frozen=True)
class Scores:
    """Logits of one head and the labels of the same samples.

    Attributes:
        logits: (B, K) of all classes, or (B, S) of those that compete in this step.
        labels: their classes are columns of ``logits``.
    """

    logits: Tensor
    labels: Labels

    @cached_property
    def log_p(self) -> Tensor:
        """(B, K) float32 logarithms of the softmax."""
        return functional.log_softmax(self.logits.float(), dim=1)

    def log_p_of_labels(self) -> Tensor:
        """(B, T) float32; where there is no label, of some class."""
        return at_columns(self.log_p, self.labels.classes)

    def mean_log_p(self) -> Tensor:
        """(B,) float32: the mean over all classes."""
        return self.log_p.mean(1)

    def positives(self) -> Tensor:
        """(B, T) float32 logits of the labels; where there is no label, of some class."""
        return at_columns(self.logits.float(), self.labels.classes)

    def negatives(self) -> Tensor:
        """(B,) float32: logarithm of the sum of exp(logit) over the classes that are no labels."""
        return without_columns(self.logits, self.labels.classes).logsumexp(1)

    def first_is_right(self) -> Tensor:
        """(B,) bool: the first prediction is (one of) the labels."""
        return (self.labels.classes == self.logits.argmax(1, keepdim=True)).any(1)


def at_columns(values: Tensor, columns: Tensor) -> Tensor:
    """(B, T): of (B, K) values those of (B, T) columns; any where the column is -1."""
    return values.gather(1, columns.clamp(min=0))


def is_column(columns: Tensor, width: int) -> Tensor:
    """(B, width) bool: which places (B, T) columns name; -1 names none."""
    wider = torch.zeros(len(columns), width + 1, dtype=torch.bool, device=columns.device)
    return wider.scatter_(1, columns.where(columns >= 0, width), True)[:, :-1]


def without_columns(logits: Tensor, columns: Tensor) -> Tensor:
    """(B, K) float32 logits with those of (B, T) columns masked."""
    return logits.float().masked_fill(is_column(columns, logits.shape[1]), MASKED)
