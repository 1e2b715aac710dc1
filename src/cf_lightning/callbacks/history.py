"""The training curve as a file of the artifact, whole after any number of kills."""

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class History(Callback):
    """Keep each epoch's metrics in the checkpoint and write them all to ``history.csv`` after every epoch.

    Args:
        folder: where the file goes.
    """

    FILE = "history.csv"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the epoch; validation has already run."""
        metrics = {
            k: float(v) for k, v in trainer.callback_metrics.items() if not k.endswith(("_step", "_epoch"))
        }
        self.epochs.append({"epoch": trainer.current_epoch, **metrics})
        if trainer.is_global_zero:
            names = list(dict.fromkeys(name for row in self.epochs for name in row))
            with open(self.folder / self.FILE, "w", newline="") as file:
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows(self.epochs)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint carries."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the curve of the checkpoint."""
        self.epochs = list(state_dict["epochs"])
