"""What every transfer protocol is: something that measures frozen features on a labelled target."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cf_lightning.config import Component
from cf_lightning.data.index import Index
from cf_lightning.errors import DataError
from cf_lightning.transfer.splits import Split, labelled_splits

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Score:
    """One measured number with its 95 % interval over the test samples, as fractions in [0, 1].

    Attributes:
        metric: ``top1``, ``top5``, ``map``, ...
        value: the measured fraction.
        ci_low: the interval's lower end.
        ci_high: its upper end.
        n_test: the samples it was measured on.
        draws: (DRAWS,) float64: the value on resampled test samples (``bootstrap``), the same samples in the
            same draw of every contestant, so that their differences are paired.
        details: the settings behind it.
    """

    metric: str
    value: float
    ci_low: float
    ci_high: float
    n_test: int
    draws: np.ndarray = field(compare=False)
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
        return labelled_splits(index, skipped)

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
