"""The one place where a ``lightning.Trainer`` is made from ``runtime``."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.strategies import DDPStrategy

from cf_lightning.precision import Precision, resolve_precision
from cf_lightning.progress import progress_bar
from cf_lightning.runtime import Runtime
from cf_lightning.sharding import ShardStrategy


class StageProgressBar(Callback):
    """One bar for all epochs of a fit, or for an extraction, in samples of all devices.

    The time left is that of the stage and so has validation in it. The loss is fetched from the device when
    the line is drawn, not with each batch.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin where an earlier attempt has stopped."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._batch = data.batch_size // trainer.accumulate_grad_batches
        epoch = trainer.num_training_batches * self._batch
        done = trainer.current_epoch * epoch
        done += trainer.fit_loop.epoch_loop.batch_progress.current.ready * self._batch
        self._bar = progress_bar(trainer.max_epochs * epoch, data.source.GIVES, done)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say which epoch it is."""
        self._tell(trainer)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Count a pass of all devices."""
        if self._bar.update(self._batch):
            loss = trainer.progress_bar_metrics.get("train/loss_step")  # none within the very first step
            self._tell(trainer, "" if loss is None else f"loss {float(loss):.2f}")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say why the bar stands still."""
        self._tell(trainer, "validating")
        self._bar.refresh()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._bar.close()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last block is filled up, and an earlier attempt may have left a part."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._batch = data.batch_size * trainer.world_size
        due = trainer.num_predict_batches[0] * self._batch
        loader: Any = trainer.predict_dataloaders
        unit = "videos" if data.source.view.views > 1 else data.source.GIVES
        self._bar = progress_bar(min(due, len(loader.dataset)), unit)

    def on_predict_batch_end(self, *_: Any) -> None:
        """Count a batch of each device."""
        self._bar.update(min(self._batch, self._bar.total - self._bar.n))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._bar.close()

    def _tell(self, trainer: Trainer, what: str = "") -> None:
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self._bar.set_postfix_str(f"{epoch}, {what}" if what else epoch, refresh=False)


def build_trainer(
    runtime: Runtime,
    out: Path,
    precision: Precision,
    callbacks: list[Callback],
    max_epochs: int = 1,
    accumulate: int = 1,
) -> Trainer:
    """A trainer for one stage, in the driver or in a torchrun worker.

    Data modules bring samplers that know their rank, so Lightning's own are switched off; checkpoints
    are the stage's business.
    """
    _quiet()
    kind, several = runtime.device_kind(), runtime.num_processes() > 1
    torch.set_num_threads(runtime.num_threads())
    backend = "nccl" if kind == "cuda" else "gloo"
    return Trainer(
        accelerator="gpu" if kind == "cuda" else "cpu",
        devices=runtime.num_devices(),
        num_nodes=runtime.nodes,
        strategy=_strategy(runtime, backend) if several else "auto",
        precision=resolve_precision(precision, kind),
        max_epochs=max_epochs,
        accumulate_grad_batches=accumulate,
        callbacks=[*callbacks, StageProgressBar()],
        logger=runtime.logger.lightning() if runtime.logger else False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=out,
    )


def _strategy(runtime: Runtime, backend: str) -> DDPStrategy:
    """Gradients lie where they are summed; buffers are alike, for batch normalisation is over all ranks.

    ``static_graph`` would bring nothing: nobody looks for parameters that a step has not used.
    """
    if runtime.shard:
        return ShardStrategy(process_group_backend=backend)
    return DDPStrategy(process_group_backend=backend, gradient_as_bucket_view=True, broadcast_buffers=False)


def _quiet() -> None:
    """Silence what Lightning says of every trainer and what our samplers and loaders do on purpose."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*exists and is not empty.*",
        ".*lr_scheduler.step.*before.*optimizer.step.*",
        ".*The number of training batches.*",
        ".*`broadcast_buffers` is deprecated.*",  # torch before 2.15 has no other name for it
        ".*logger with `Trainer.*",
        ".*epoch parameter in `scheduler.step.*",
        ".*isinstance.treespec.*",
        ".*You defined a `validation_step` but have no.*",
        ".*Total length of .* across ranks is zero.*",  # data without a split val, or few samples
        ".*ended before the epoch ended and your dataloader.*",  # our samplers go on within an epoch
        ".*in eval mode at the start of training.*",  # the trunk of a probe
        ".*returned a view tensor.*",  # of FSDP; nothing here changes features in place
    ):
        warnings.filterwarnings("ignore", message)
