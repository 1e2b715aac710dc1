"""``PseudoLabelClassifier``: a trunk and a linear head trained with cross-entropy."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric

from cf_lightning.models.trunk import Trunk
from cf_lightning.optimization import Optimization


class PseudoLabelClassifier(LightningModule):
    """Cross-entropy on cluster ids, class labels or hashtags.

    Batches are ``(images, targets, index)``: (B, 3, H, W) uint8; (B,) int64 classes or (B, T) int64
    tags filled up with -1, whose k tags share a target of 1/k; (B,) int64 rows, negative for images
    that could not be decoded, which take part in no loss and no metric. It logs ``train/loss``,
    ``val/loss`` and ``val/top1`` (for tags: the share of images whose first prediction is one of them).

    Args:
        trunk: the network, trained together with the head.
        num_classes: width of the head.
        optimization: recipe of optimiser and schedule.
        batch_size: global; it scales the learning rate.
        seed: everything drawn within an epoch follows from it and the epoch's number.
    """

    def __init__(
        self,
        trunk: Trunk,
        num_classes: int,
        optimization: Optimization | None = None,
        batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.trunk = trunk.to(memory_format=torch.channels_last)
        self.head = nn.Linear(trunk.feature_dim, num_classes)
        self.optimization = optimization or Optimization()
        self.batch_size, self.seed = batch_size, seed
        self.val_loss, self.val_top1 = MeanMetric(), MeanMetric()

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 to (B, num_classes) logits."""
        features = self.trunk(images)
        # oneDNN multiplies bf16 matrices of odd width ten times slower than those of even width
        with torch.autocast("cpu", enabled=False):
            logits: Tensor = self.head(features.float())
        return logits

    def on_train_epoch_start(self) -> None:
        """Reseed, so that a resumed epoch draws what an undisturbed one draws (dropout, for example)."""
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean loss over the batch."""
        images, targets, index = batch
        losses = cross_entropy(self(images), targets)
        loss = (losses * (index >= 0)).mean()
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True, sync_dist=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        """Loss and top-1 over the decodable rows."""
        images, targets, index = batch
        logits, decoded = self(images), (index >= 0).float()
        hits = (targets.view(len(targets), -1) == logits.argmax(1, keepdim=True)).any(1)
        self.val_loss.update(cross_entropy(logits, targets), decoded)
        self.val_top1.update(hits.float(), decoded)
        self.log_dict({"val/loss": self.val_loss, "val/top1": self.val_top1}, prog_bar=True, on_epoch=True)

    def configure_optimizers(self) -> Any:
        """SGD and a schedule over all steps of the fit."""
        steps = int(self.trainer.estimated_stepping_batches)
        return self.optimization.build(self, self.batch_size, steps)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each sample in float32, 0 where it has no target.

    Args:
        logits: (B, K).
        targets: (B,) int64 classes, or (B, T) int64 classes that share the target evenly; -1 is none.

    Returns:
        (B,) float32.
    """
    targets = targets.view(len(targets), -1)
    present = (targets >= 0).float()
    log_p = functional.log_softmax(logits.float(), dim=1).gather(1, targets.clamp(min=0))
    return -(log_p * present).sum(1) / present.sum(1).clamp(min=1)
