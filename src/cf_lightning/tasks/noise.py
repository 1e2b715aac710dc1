"""Synthetic label noise: the control experiment of Yan et al. 2020."""

import dataclasses

import numpy as np

from cf_lightning.errors import DataError
from cf_lightning.tasks.base import Targets


def with_noise(targets: Targets, rows: np.ndarray, share: float, seed: int) -> Targets:
    """Replace a share of the labels by another class, drawn uniformly from all the others.

    A higher share replaces the same labels by the same classes, and more. Nothing but
    ``seed`` and the row decides, so that all processes see the same labels.

    Args:
        targets: of one head and one class a sample, (N,) int64.
        rows: (n,) int64, whose labels may be replaced: those of split train, so that validation is clean.
        share: in [0, 1].
        seed: of the draws.

    Raises:
        DataError: samples with several labels, or a single class.
    """
    values, num_classes = targets.values, targets.num_classes
    if values.ndim > 1 or isinstance(num_classes, dict) or num_classes < 2:
        raise DataError(f"noise={share}: replaces labels of one class a sample out of two or more classes")
    rng = np.random.default_rng(seed)
    order, steps = rng.permutation(len(values)), rng.integers(1, num_classes, len(values))
    order = order[np.isin(order, rows[values[rows] >= 0])]
    replaced = order[: round(share * len(order))]
    noisy = values.copy()
    noisy[replaced] = (values[replaced] + steps[replaced]) % num_classes
    return dataclasses.replace(targets, values=noisy)
