"""The one place where a ``lightning.Trainer`` is made from ``runtime``."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, TQDMProgressBar
from lightning.pytorch.strategies import DDPStrategy

from cf_lightning.precision import Precision, resolve_precision
from cf_lightning.runtime import Runtime


class StageProgressBar(TQDMProgressBar):
    """Lightning's progress bar with the stage's name in front."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage

    def init_train_tqdm(self) -> Any:
        """The bar of an epoch."""
        return self._named(super().init_train_tqdm())

    def init_predict_tqdm(self) -> Any:
        """The bar of an extraction."""
        return self._named(super().init_predict_tqdm())

    def _named(self, bar: Any) -> Any:
        plain = bar.set_description
        bar.set_description = lambda text, *args: plain(f"{self.stage}: {text}", *args)
        bar.set_description(bar.desc.rstrip(": "))
        return bar


def build_trainer(
    runtime: Runtime, out: Path, precision: Precision, callbacks: list[Callback], max_epochs: int = 1
) -> Trainer:
    """A trainer for one stage, in the driver or in a torchrun worker.

    Data modules bring samplers that know their rank, so Lightning's own are switched off; checkpoints
    are the stage's business.
    """
    _quiet()
    kind, devices = runtime.device_kind(), runtime.num_devices()
    torch.set_num_threads(runtime.num_threads())
    backend = "nccl" if kind == "cuda" else "gloo"
    show = runtime.shows_progress()
    if show:
        callbacks = [*callbacks, StageProgressBar(out.parent.name)]
    return Trainer(
        accelerator="gpu" if kind == "cuda" else "cpu",
        devices=devices,
        strategy=DDPStrategy(process_group_backend=backend) if devices > 1 else "auto",
        sync_batchnorm=devices > 1 and kind == "cuda",
        precision=resolve_precision(precision, kind),
        max_epochs=max_epochs,
        callbacks=callbacks,
        logger=runtime.logger.lightning() if runtime.logger else False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=show,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=out,
    )


def _quiet() -> None:
    """Silence what Lightning says of every trainer and what our samplers and loaders do on purpose."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*exists and is not empty.*",
        ".*lr_scheduler.step.*before.*optimizer.step.*",
        ".*The number of training batches.*",
        ".*logger with `Trainer.*",
        ".*epoch parameter in `scheduler.step.*",
        ".*isinstance.treespec.*",
        ".*You defined a `validation_step` but have no.*",
    ):
        warnings.filterwarnings("ignore", message)
