"""``PseudoLabelClassifier``: a trunk and one or several heads, trained on what a task makes of images."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import MeanMetric

from cf_lightning.models.trunk import Trunk
from cf_lightning.optimization import Optimization
from cf_lightning.tasks.base import Task
from cf_lightning.tasks.clusters import Clusters
from cf_lightning.tasks.draws import Draws


class PseudoLabelClassifier(LightningModule):
    """Cross-entropy on cluster ids, class labels or hashtags, or another task's inputs, head and loss.

    Batches are ``(images, targets, index)``: (B, 3, H, W) uint8; (B,) int64 classes or (B, T) int64
    tags filled up with -1, whose k tags share a target of 1/k; (B,) int64 rows, negative for images
    that could not be decoded, which take part in no loss and no metric. It logs ``train/loss``,
    ``val/loss`` and ``val/top1`` (for tags: the share of images whose first prediction is one of them).

    With several heads, each with classes of its own, targets are (B, H, T) int64, in the order in which
    the heads are named: a third axis always is one of heads, a second never. Losses and ``val/top1`` are
    means over the heads; ``val/top1_<head>`` is that of one.

    Args:
        trunk: the network, trained together with the head.
        num_classes: width of the head; of several heads by name, as in ``{"k100": 100, "k500": 500}``.
        task: what the network sees of a batch, its head and its loss; it has been prepared.
        optimization: recipe of optimiser and schedule.
        batch_size: global; it scales the learning rate.
        seed: everything drawn within an epoch follows from it and the epoch's number.
    """

    def __init__(
        self,
        trunk: Trunk,
        num_classes: int | Mapping[str, int],
        task: Task | None = None,
        optimization: Optimization | None = None,
        batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.trunk = trunk.to(memory_format=torch.channels_last)
        heads = num_classes if isinstance(num_classes, Mapping) else {}
        self.widths = list(heads.values()) if isinstance(num_classes, Mapping) else [num_classes]
        self.task = task or Clusters()
        self.head = self.task.head(trunk.feature_dim, sum(self.widths))  # several lie side by side
        self.optimization = optimization or Optimization()
        self.batch_size, self.seed = batch_size, seed
        self.val_loss, self.val_top1 = MeanMetric(), MeanMetric()
        self.val_top1_of = nn.ModuleDict({head: MeanMetric() for head in heads})

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), or (B, P, 3, H, W) patches, uint8 to (B, K) logits, those of heads side by side."""
        features = self.trunk(images.flatten(0, -4)).unflatten(0, images.shape[:-3])
        # oneDNN multiplies bf16 matrices of odd width ten times slower than those of even width
        with torch.autocast("cpu", enabled=False):
            logits: Tensor = self.head(features.float())
        return logits

    def on_train_epoch_start(self) -> None:
        """Reseed, so that a resumed epoch draws what an undisturbed one draws (dropout, for example)."""
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean loss over the batch."""
        losses, _ = self._scores(batch, self.current_epoch)
        loss = (losses.mean(0) * (batch[2] >= 0)).mean()
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True, sync_dist=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        """Loss and top-1 over the decodable rows; what a task draws is the same in every epoch."""
        losses, hits = self._scores(batch, epoch=0)
        decoded = (batch[2] >= 0).float()
        self.val_loss.update(losses.mean(0), decoded)
        self.val_top1.update(hits.mean(0), decoded)
        self.log_dict({"val/loss": self.val_loss, "val/top1": self.val_top1}, prog_bar=True, on_epoch=True)
        for number, name in enumerate(self.val_top1_of):
            top1: Any = self.val_top1_of[name]
            top1.update(hits[number], decoded)
            self.log(f"val/top1_{name}", top1, on_epoch=True)

    def configure_optimizers(self) -> Any:
        """SGD and a schedule over all steps of the fit."""
        steps = int(self.trainer.estimated_stepping_batches)
        return self.optimization.build(self, self.batch_size, steps)

    def _scores(self, batch: tuple[Tensor, Tensor, Tensor], epoch: int) -> tuple[Tensor, Tensor]:
        """Of each head and sample, (H, B) float32: the loss, and 1 where the first prediction is right."""
        images, targets, index = batch
        inputs, targets = self.task.batch(images, targets, Draws(index, self.seed, epoch))
        heads = self._by_head(self(inputs), targets)
        losses, hits = zip(*(self.task.score(*head, inputs) for head in heads), strict=True)
        return torch.stack(losses), torch.stack(hits).float()

    def _by_head(self, logits: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The logits (B, K) and the targets, (B,) or (B, T), of each head."""
        several = len(self.val_top1_of) > 0
        if several != (targets.ndim == 3):
            raise ValueError(f"targets of shape {tuple(targets.shape)} for heads of widths {self.widths}")
        own = targets.unbind(1) if several else (targets,)
        return list(zip(torch.split(logits, self.widths, dim=1), own, strict=True))
