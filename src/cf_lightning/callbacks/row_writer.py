"""A callback that writes what a predict loop returns into a row file."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from cf_lightning.errors import DataError
from cf_lightning.rows import SKIPPED, WRITTEN, RowFile

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


class RowWriter(Callback):
    """Writes predictions ``(index, features)`` to the rows that ``index`` names, in whatever order they come.

    ``index`` is (B,) int64 and ``features`` (B, D), or (B, V, D) of samples that are seen in V views. A
    negative index ``~row`` says that the sample of ``row`` could not be decoded: its row becomes zeros and is
    recorded as skipped. A row that is repeated within a batch (the last one, filled up) is written once, as
    it came first.

    A plain callback and no ``BasePredictionWriter``: the predictions carry their index, so that
    Lightning need not guess it from the batch sampler. Call ``trainer.predict(return_predictions=False)``,
    or Lightning keeps every prediction in memory.

    In a predict loop a thread fetches and writes a batch while the next ones are computed: neither the disk
    nor the copy from a GPU is waited for, unless they are slower than the network.

    Args:
        path: the ``.npy`` file; one that another attempt began is continued (see ``rows.RowFile``).
        shape: (N, D) or (N, V, D).
        dtype: of the file.

    Raises:
        StoreError: the file cannot be written.
    """

    AHEAD: ClassVar[int] = 2  # batches that may wait to be written

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: "DTypeLike") -> None:
        self.file = RowFile(path, shape, dtype)
        self._thread = ThreadPoolExecutor(1, "rows")
        self._writing: deque[Future[None]] = deque()
        self._torch_dtype = torch.from_numpy(np.empty(0, dtype)).dtype

    def pending(self) -> np.ndarray:
        """(N,) bool: the rows that are still to be predicted."""
        return self.file.pending()

    def skipped(self) -> np.ndarray:
        """(n,) int64, ascending: the rows whose sample could not be decoded."""
        return self.file.skipped()

    def finish(self) -> None:
        """On one rank, after the loop and a barrier: check that every row is there; write ``skipped.npy``.

        Raises:
            StoreError: rows are missing.
        """
        self.file.close()
        self.file.assert_complete()
        np.save(self.file.path.with_name("skipped.npy"), self.skipped())

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Let the thread write one batch."""
        self._writing.append(self._thread.submit(self.write, *unpack(outputs)))
        self._wait(self.AHEAD)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the last rows."""
        self._wait(0)
        self.file.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Record what is there, for the next attempt."""
        wait(self._writing)
        self.file.close()

    def _wait(self, ahead: int) -> None:
        """Until at most so many batches are not written; what went wrong with one is raised here."""
        while len(self._writing) > ahead:
            self._writing.popleft().result()

    def write(self, index: Tensor, features: Tensor) -> None:
        """Write the rows of one batch.

        Args:
            index: (B,) int64 rows, ``~row`` where the sample could not be decoded.
            features: (B, D) or (B, V, D), any float dtype, any device.

        Raises:
            DataError: an index that is no row of the file.
            StoreError: the file cannot be written.
        """
        numbers = index.cpu().numpy()
        values = features.detach().to(self._torch_dtype).cpu().numpy()
        rows, first = np.unique(np.where(numbers < 0, ~numbers, numbers), return_index=True)
        if rows[-1] >= self.file.shape[0]:
            raise DataError(
                f"predict_step returned index {rows[-1]}, but there are {self.file.shape[0]} samples: "
                f"the index is the sample's number in the dataset"
            )
        is_skipped, values = numbers[first] < 0, values[first]
        values[is_skipped] = 0
        is_break = (np.diff(rows) != 1) | (np.diff(is_skipped.astype(np.int8)) != 0)
        for run in np.split(np.arange(len(rows)), np.flatnonzero(is_break) + 1):
            self.file.write(
                int(rows[run[0]]),
                values[run[0] : run[-1] + 1],
                SKIPPED if is_skipped[run[0]] else WRITTEN,
            )


def unpack(outputs: Any) -> tuple[Tensor, Tensor]:
    """Index (B,) and features (B, D) or (B, V, D) of one batch's predictions.

    Raises:
        DataError: ``predict_step`` returned something else.
    """
    match outputs:
        case (Tensor() as index, Tensor() as features) if (
            index.ndim == 1
            and len(index)
            and features.ndim in (2, 3)
            and len(index) == len(features)
            and not index.is_floating_point()
        ):
            return index.long(), features
    raise DataError(
        "predict_step must return (index, features): index (B,) int64, the sample's number in the dataset, "
        f"and features (B, D); it returned {_describe(outputs)}"
    )


def _describe(outputs: Any) -> str:
    if isinstance(outputs, Tensor):
        return f"a tensor {tuple(outputs.shape)}"
    if isinstance(outputs, list | tuple):
        return f"({', '.join(_describe(item) for item in outputs)})"
    return type(outputs).__name__
