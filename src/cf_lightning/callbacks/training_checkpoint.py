"""One checkpoint for resuming, whole whatever happens."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from cf_lightning.errors import StoreError
from cf_lightning.preemption import exit_when_asked, on_signals


class TrainingCheckpoint(Checkpoint):
    """``resume.ckpt``: the state after every epoch, within one every few minutes, and when asked to end.

    Lightning's own checkpoints are staged in the system's temporary folder and then moved, which is
    a copy where that is another file system: a kill in the middle leaves a truncated file. Here the
    copy has another name until it is whole.

    Args:
        folder: where the file goes.
        minutes: between two checkpoints within an epoch.

    Raises:
        SystemExit: on every rank after the batch in which one was sent SIGTERM or SIGUSR1; with 128 + the
            signal's number.
    """

    FILE = "resume.ckpt"

    def __init__(self, folder: Path, minutes: float = 10.0) -> None:
        self.file = folder / self.FILE
        self.seconds = 60 * minutes
        self._signal = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hear the signals: Lightning's own handler talks to the other ranks in the middle of anything."""
        on_signals(lambda number: setattr(self, "_signal", number))
        self._saved = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save if it is time, and end if a rank was asked to; all ranks decide alike."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if done == trainer.num_training_batches or done % trainer.accumulate_grad_batches:
            return
        is_due = time.monotonic() - self._saved > self.seconds
        number, due = self._of_any_rank(trainer, self._signal, int(is_due))
        if number or due:
            self._save(trainer)
        if number:
            sys.exit(128 + number)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; Lightning calls checkpoint callbacks after all others."""
        self._save(trainer)
        (number,) = self._of_any_rank(trainer, self._signal)
        if number:
            sys.exit(128 + number)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing is lost from here on: end at once. Lightning puts the handlers back that it found."""
        exit_when_asked()
        if self._signal:
            sys.exit(128 + self._signal)

    def found(self) -> str | None:
        """The file to continue from, if an earlier attempt left one.

        Raises:
            StoreError: it is damaged, or reading it would execute code. Its tensors are not read yet.
        """
        if not self.file.exists():
            return None
        try:
            torch.load(self.file, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # of whatever bytes, torch raises whatever
            reason = (str(error) or type(error).__name__).splitlines()[0].split(". ")[0]
            raise StoreError(
                f"{self.file}: no checkpoint that can be read without executing it ({reason}); remove it to "
                "begin the training anew"
            ) from error
        return str(self.file)

    def remove(self) -> None:
        """Forget the checkpoint: the training is done."""
        self.file.unlink()
        self.file.with_suffix(".new").unlink(missing_ok=True)

    def _save(self, trainer: Trainer) -> None:
        draft = self.file.with_suffix(".new")
        trainer.save_checkpoint(draft)
        if trainer.is_global_zero:
            with open(draft, "rb") as file:
                os.fsync(file.fileno())
            os.replace(draft, self.file)
        self._saved = time.monotonic()

    def _of_any_rank(self, trainer: Trainer, *values: int) -> list[int]:
        """The largest of each value over the ranks."""
        if trainer.world_size == 1:
            return list(values)
        largest = torch.tensor(values, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)  # Lightning's waits twice
        found: list[int] = largest.tolist()
        return found
