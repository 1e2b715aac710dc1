"""One checkpoint for resuming, replaced after every epoch, whole whatever happens."""

import os
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint


class EpochCheckpoint(Checkpoint):
    """``resume.ckpt``: the state after the last whole epoch.

    Lightning's own checkpoints are staged in the system's temporary folder and then moved, which is
    a copy where that is another file system: a kill in the middle leaves a truncated file. Here the
    copy has another name until it is whole.

    Args:
        folder: where the file goes.
    """

    FILE = "resume.ckpt"

    def __init__(self, folder: Path) -> None:
        self.file = folder / self.FILE

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; Lightning calls checkpoint callbacks after all others."""
        draft = self.file.with_suffix(".new")
        trainer.save_checkpoint(draft)
        if trainer.is_global_zero:
            with open(draft, "rb") as file:
                os.fsync(file.fileno())
            os.replace(draft, self.file)

    def found(self) -> str | None:
        """The file to continue from, if an earlier attempt left one."""
        return str(self.file) if self.file.exists() else None

    def remove(self) -> None:
        """Forget the checkpoint: the training is done."""
        self.file.unlink()
        self.file.with_suffix(".new").unlink(missing_ok=True)
