"""``PseudoLabelClassifier``: a trunk and one or several heads, trained on what a task makes of images."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from cf_lightning.data.mix import Mix, partners
from cf_lightning.heads import checkpoint as divided
from cf_lightning.heads.place import Shard
from cf_lightning.heads.rows_only import RowsOnly
from cf_lightning.heads.scores import Scores
from cf_lightning.models.trunk import Trunk
from cf_lightning.optimization import SGD, Optimization
from cf_lightning.tasks.base import Task
from cf_lightning.tasks.clusters import Clusters
from cf_lightning.tasks.draws import Draws
from cf_lightning.tasks.within_epoch import go_on, so_far


class PseudoLabelClassifier(LightningModule):
    """Cross-entropy on cluster ids, class labels or hashtags, or another task's inputs, head and loss.

    Batches are ``(images, targets, index)``: (B, 3, H, W) uint8, or clips (B, 3, T, H, W); (B,) int64 classes
    or (B, T) int64 tags filled up with -1, whose k tags share a target of 1/k; (B,) int64 rows, negative for
    images that could not be decoded, which take part in no loss and no metric. It logs ``train/loss``,
    ``val/loss`` and ``val/top1`` (for tags: the share of images whose first prediction is one of them).

    With several heads, each with classes of its own, targets are (B, H, T) int64, in the order in which
    the heads are named: a third axis always is one of heads, a second never. Losses and ``val/top1`` are
    means over the heads; ``val/top1_<head>`` is that of one.

    Args:
        trunk: the network, trained together with the head.
        num_classes: width of the head; of several heads by name, as in ``{"k100": 100, "k500": 500}``.
        task: what the network sees of a batch, its head and its loss; it has been prepared.
        optimization: recipe of optimiser and schedule.
        batch_size: of an optimiser step, on all devices; it scales the learning rate.
        seed: everything drawn within an epoch follows from it and the epoch's number.
        mix: of the images of a training batch; default none.
    """

    def __init__(
        self,
        trunk: Trunk,
        num_classes: int | Mapping[str, int],
        task: Task | None = None,
        optimization: Optimization | None = None,
        batch_size: int = 256,
        seed: int = 0,
        mix: Mix | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk.channels_last()
        heads = num_classes if isinstance(num_classes, Mapping) else {}
        self.widths = list(heads.values()) if isinstance(num_classes, Mapping) else [num_classes]
        self.task = task or Clusters()
        self.head = self.task.build_head(trunk.feature_dim, self.widths)
        self.rows_only = RowsOnly(self.head)
        if self.head.rate < 1:
            self._hide_head_from_ddp()
        self.optimization = optimization or SGD()
        self.batch_size, self.seed, self.mix = batch_size, seed, mix or Mix()
        self._passes: list[Tensor] = []  # losses of the step so far
        self._epoch_so_far: dict[str, Tensor] = {}  # what a checkpoint has of it
        self.clusters: Tensor | None = None  # (N,) int64, in place of the data's targets
        self.train_loss = MeanMetric(nan_strategy="disable")  # a callback looks, and not after every step
        self.val_loss, self.val_top1 = MeanMetric(), MeanMetric()
        self.val_top1_of = nn.ModuleDict({head: MeanMetric() for head in heads})

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), or (B, P, 3, H, W) patches, uint8 to (B, K) logits, those of heads side by side.

        Of a trunk of clips (B, 3, T, H, W), or (B, V, 3, T, H, W) to (B, V, K).
        """
        features = self.trunk(images)
        with torch.autocast("cpu", enabled=False):
            logits: Tensor = self.head(features.float())
        return logits

    def predict_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> tuple[Tensor, Tensor]:
        """``(images, targets, index)`` to ``(index, features)``: (B,) int64 and (B, D) float32."""
        return batch[2], self.trunk(batch[0]).float()

    def on_clusters(self, labels: Tensor, centroids: Tensor) -> None:
        """Learn these clusters from now on, with a head that knows nothing yet (Caron et al. 2018).

        ``KMeansCallback(every_n_epochs=...)`` calls it on every rank.

        Args:
            labels: (N,) int64, of every row of the data.
            centroids: (K, D) float32; K is the head's.
        """
        self.clusters = labels
        self.head.forget()
        for parameter in self.head.parameters():
            for value in self._optimizer.state[parameter].values():
                value.zero_()

    def on_train_start(self) -> None:
        """Go on within an epoch; Lightning has made the loaders, which may draw seeds for their workers."""
        if self._epoch_so_far:
            go_on(self.train_loss, self._epoch_so_far, self.trainer)

    def on_train_epoch_start(self) -> None:
        """Reseed, so that a resumed epoch draws what an undisturbed one draws (dropout, for example)."""
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean loss over the batch."""
        inputs, heads = self._scores(batch, self.current_epoch)
        losses = torch.stack([self.task.loss_of(scores, inputs) for scores in heads])
        decoded = batch[2] >= 0
        if self.mix.on:  # its partner's pixels are in it, too
            decoded = decoded & partners(decoded)
        loss = (losses.mean(0) * decoded).mean()
        self.train_loss.update(loss.detach())
        self._passes.append(loss.detach())
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        """Loss and top-1 over the decodable rows; what a task draws is the same in every epoch."""
        inputs, heads = self._scores(batch, epoch=0)
        losses = torch.stack([self.task.loss_of(scores, inputs) for scores in heads])
        hits = torch.stack([self.task.right(scores, inputs) for scores in heads]).float()
        decoded = (batch[2] >= 0).float()
        self.val_loss.update(losses.mean(0), decoded)
        self.val_top1.update(hits.mean(0), decoded)
        self.log_dict({"val/loss": self.val_loss, "val/top1": self.val_top1}, prog_bar=True, on_epoch=True)
        for number, name in enumerate(self.val_top1_of):
            top1: Any = self.val_top1_of[name]
            top1.update(hits[number], decoded)
            self.log(f"val/top1_{name}", top1, on_epoch=True)

    def on_validation_start(self) -> None:
        """Batches of the ranks may differ in size here, so each has all classes for a while."""
        self._place_in_training = self.head.place
        self.head.assemble()

    def on_validation_end(self) -> None:
        """Go on as before."""
        if isinstance(self._place_in_training, Shard):
            self.head.divide(self._place_in_training.rank, self._place_in_training.world)

    def configure_optimizers(self) -> Any:
        """An optimiser and a schedule over all steps of the fit."""
        steps = int(self.trainer.estimated_stepping_batches)
        return self.optimization.build(self, self.batch_size, steps)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Of a head of which only some classes took part, only those."""
        assert optimizer_closure is not None

        def gradients() -> Any:
            """Lightning makes the last pass within the step, and then looks at the gradients."""
            loss = optimizer_closure()
            self.rows_only.cut(self._optimizer)
            return loss

        super().optimizer_step(epoch, batch_idx, optimizer, gradients)
        self.rows_only.put_back(self._optimizer)

    def on_after_backward(self) -> None:
        """Of each pass of a step."""
        self.rows_only.add()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the mean loss of the step's passes: of all devices when loggers take it, else of this one.

        A collective in each step would let all devices wait for the slowest. Whether there is a logger is not
        asked: the first device alone may have one.
        """
        loss = torch.stack(self._passes).mean()
        self._passes.clear()
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (self.global_step + 1) % every == 0:
            loss = self.trainer.strategy.reduce(loss, reduce_op="mean")
        self.log("train/loss_step", loss, prog_bar=True)

    def divide(self, rank: int, world: int) -> None:
        """Divide the classes among the ranks; DDP then leaves them alone."""
        self.head.divide(rank, world)
        self._hide_head_from_ddp()

    def _hide_head_from_ddp(self) -> None:
        """Its gradients are of some classes only, and ``Head.place`` averages them."""
        classes = {id(parameter) for parameter in self.head.classes()}
        self._ddp_params_and_buffers_to_ignore = [n for n, p in self.named_parameters() if id(p) in classes]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """All classes, whatever rank they are on, the clusters that are learned, and the epoch so far."""
        divided.assemble(checkpoint, self.head, self.trainer.optimizers)
        checkpoint["clusters"] = self.clusters
        checkpoint["epoch_so_far"] = so_far(self.train_loss, self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The classes of this rank, the clusters that are learned, and how the epoch goes on."""
        divided.divide(checkpoint, self.head)
        self.clusters = checkpoint["clusters"]
        self._epoch_so_far = checkpoint["epoch_so_far"]

    @property
    def _optimizer(self) -> Optimizer:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, Optimizer)
        return optimizer

    def _scores(self, batch: tuple[Tensor, Tensor, Tensor], epoch: int) -> tuple[Tensor, list[Scores]]:
        """What the network saw, and the scores of each head."""
        images, targets, index = batch
        if self.clusters is not None:
            self.clusters = self.clusters.to(index.device)
            targets = self.clusters[index.where(index >= 0, ~index)]
        inputs, targets = self.task.batch(images, targets, Draws(index, self.seed, epoch))
        labels = [self.task.labels_of(own) for own in self._by_head(targets)]
        if self.training and self.mix.on:
            inputs, share = self.mix(inputs, self.seed, self.global_step)
            labels = [own.mixed(share) for own in labels]
        features = self.trunk(inputs)
        # oneDNN multiplies bf16 matrices of odd width ten times slower than those of even width
        with torch.autocast("cpu", enabled=False):
            return inputs, self.head.scores(features.float(), labels, self.seed, self.global_step)

    def _by_head(self, targets: Tensor) -> list[Tensor]:
        """The targets, (B,) or (B, T), of each head."""
        several = len(self.val_top1_of) > 0
        if several != (targets.ndim == 3):
            raise ValueError(f"targets of shape {tuple(targets.shape)} for heads of widths {self.widths}")
        return list(targets.unbind(1)) if several else [targets]
