"""Samples with their rows, for any ``lightning.Trainer``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from cf_lightning.data.dataset import SampleDataset, whole
from cf_lightning.data.index import Index, has_target
from cf_lightning.data.loader import Loader
from cf_lightning.data.samplers import BlockSampler, EpochSampler, RankSampler
from cf_lightning.data.source import Source
from cf_lightning.data.views import Augmentation
from cf_lightning.data.watch import Watch


class SampleDataModule(LightningDataModule):
    """Batches ``(samples, targets, index)``: what ``ImageDataModule`` and ``VideoClipDataModule`` share.

    Args:
        source: lists and decodes the samples.
        index: the source's index if it has been listed already.
        targets: (N,) or (N, T) int64, -1 for none; default the class of each row.
        weights: (N,) float64, how often a training row is drawn; default each once an epoch.
        augmentation: random view of training samples; default the source's deterministic view.
        sides: of the training crop in each epoch, in pixels, and of all that follow in the last;
            default the view's.
        batch_size: of one optimiser step in training, of all devices and of the ``accumulate_grad_batches``
            passes of the trainer together; of one forward pass in prediction.
        seed: of shuffling and augmentation.
        workers: loader processes of each device.
        patience: seconds that one of them may take for a sample.
        pending: (N,) bool, the rows that prediction still has to cover; default all.
    """

    def __init__(
        self,
        source: Source,
        *,
        index: Index | None = None,
        targets: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        augmentation: Augmentation | None = None,
        sides: Sequence[int] = (),
        batch_size: int = 256,
        seed: int = 0,
        workers: int = 0,
        patience: float = 600,
        pending: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # more devices than blocks
        self.source = source
        self.index = source.index() if index is None else index
        self.targets = self.index.single_labels() if targets is None else targets
        self.weights, self.augmentation, self.pending = weights, augmentation, pending
        self.sides = sides
        self.batch_size, self.seed, self.workers, self.patience = batch_size, seed, workers, patience

    def train_dataloader(self) -> DataLoader[Any]:
        """Rows of split train that have a target, shuffled by (seed, epoch)."""
        rows = self._labelled(self.index.rows("train"))
        weights = None if self.weights is None else self.weights[rows]
        sampler = EpochSampler(rows, weights, self.batch_size, self.seed, *self._rank_of_world(), self._had)
        dataset = SampleDataset(
            self.source, self.index, self.targets, self.augmentation, self.seed, self.sides
        )
        if self.batch_size % (parts := self._passes * self._rank_of_world()[1]):
            raise ValueError(f"a batch of {self.batch_size} cannot be divided into {parts} equal parts")
        return self._loader(dataset, sampler, self._local_batch)

    def val_dataloader(self) -> DataLoader[Any]:
        """Rows of split val that have a target, each once and in one view."""
        rows = self._labelled(self.index.rows("val"))
        sampler = RankSampler(rows, *self._rank_of_world())
        source = self.source.model_copy(update={"view": self.source.view.single()})
        dataset = SampleDataset(source, self.index, self.targets)
        return self._loader(dataset, sampler, max(1, self._local_batch))

    def predict_dataloader(self) -> DataLoader[Any]:
        """Every row of every split in order, in all views, in blocks of ``batch_size``; the last is full."""
        sampler = BlockSampler(len(self.index), self.batch_size, self.pending, *self._rank_of_world())
        return self._loader(SampleDataset(self.source, self.index, self.targets), sampler, self.batch_size)

    def _labelled(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows[has_target(self.targets)[rows]])

    def _rank_of_world(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    @property
    def _passes(self) -> int:
        """That make one optimiser step."""
        return self.trainer.accumulate_grad_batches if self.trainer else 1

    @property
    def _local_batch(self) -> int:
        """Samples of one pass on one device."""
        return self.batch_size // (self._passes * self._rank_of_world()[1])

    def _had(self) -> int:
        """Samples that this rank has had of the epoch that begins: some, where a checkpoint was within it."""
        if not self.trainer or not self.trainer.training:
            return 0
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready * self._local_batch

    def _loader(self, dataset: SampleDataset, sampler: Any, batch_size: int) -> DataLoader[Any]:
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return Loader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            collate_fn=whole,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=Watch(self.workers, self.patience) if self.workers else None,
            pin_memory=on_gpu,
            generator=torch.Generator(),  # of seeds that nothing uses: the global one is the network's
        )
