"""The linear probe: how linearly separable a frozen trunk's features are."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from cf_lightning.errors import ConfigError
from cf_lightning.progress import progress_bar
from cf_lightning.transfer.accuracy import rank_of_truth
from cf_lightning.transfer.average_precision import map_of_those_present
from cf_lightning.transfer.base import Protocol, Score, load
from cf_lightning.transfer.splits import Split
from cf_lightning.transfer.tally import Tally

if TYPE_CHECKING:
    from torch import Tensor

    from cf_lightning.transfer.probes import Probes

CHUNK = 1024  # test samples of one forward pass; changes no number
Rate = Annotated[float, Field(gt=0)]


class LinearProbe(Protocol):
    """Batch norm and one linear layer, trained with SGD on cached features.

    The settings are VISSL's for ImageNet-1K (``eval_resnet_8gpu_transfer_in1k_linear``, after Goyal et
    al. 2019, section 6.1): batch norm with scale and shift and without weight decay, Nesterov momentum
    0.9, the learning rate divided by 10 three times. It differs in two things: features are those of the
    centre view, cached once, so there are no random crops and flips; and of a layer's map each number is
    normalised by itself, not each channel.

    Of several learning rates all are trained in one pass, on a part of train; the best on the rest of it
    trains on all of train. Where samples have several labels, each class has a sigmoid (``probes.losses``).

    Where samples have several views (the clips of a video), each view is a sample of the training, and the
    probabilities of a test sample are the mean over its views (Tran et al. 2018, section 4.1).

    Attributes:
        epochs: passes over the training samples; a small target needs more of them for as many steps.
        lr: learning rate for 256 samples, or several, ascending; scales with ``batch_size``.
        val_share: of train that several learning rates are compared on.
        batch_size: samples of one step.
        weight_decay: of the linear layer.
        milestones: where in training, as fractions of its steps, the learning rate is divided by 10.
        seed: of the initial weights, the order of samples and the share.
    """

    NAME: ClassVar[str] = "linear"
    OF_VIEWS: ClassVar[bool] = True
    VERSION: ClassVar[int] = 2

    epochs: int = Field(default=28, ge=1)
    lr: Rate | Annotated[list[Rate], Field(min_length=1)] = 0.01
    val_share: float = Field(default=0.1, gt=0, le=0.5)
    batch_size: int = Field(default=256, ge=2)
    weight_decay: float = Field(default=5e-4, ge=0)
    milestones: list[Annotated[float, Field(gt=0, lt=1)]] = [8 / 28, 16 / 28, 24 / 28]
    seed: int = Field(default=0, ge=0)

    @field_validator("lr")
    @classmethod
    def _ascend(cls, lr: float | list[float]) -> float | list[float]:
        if isinstance(lr, list) and lr != sorted(set(lr)):
            raise ValueError("learning rates have to ascend")
        return lr

    def evaluate(self, features: np.ndarray, train: Split, test: Split, device: str) -> list[Score]:
        """Train on ``train``, measure on ``test``; the same seed on the same device gives the same scores.

        Raises:
            ConfigError: training diverged.
            DataError: a feature is not finite.
        """
        several = train.labels.ndim == 2
        num_classes = train.num_classes
        chosen: dict[str, Any] = {}
        lr = self.lr
        if isinstance(lr, list):
            lr, chosen = self._choose(lr, features, train, num_classes, device)
        probe, loss = self._fit([lr], features, train, num_classes, device)
        if not loss.isfinite().all():
            raise ConfigError(f"transfer.linear.protocol.lr={lr}: the probe diverged; try a tenth of it")
        tally = Tally(test, num_classes)
        for (scores,) in _predict(probe, features, test, several, device):
            tally.add(scores)
        return tally.scores(self.model_dump(exclude={"val_share"}) | chosen)

    def _choose(
        self, lrs: list[float], features: np.ndarray, train: Split, num_classes: int, device: str
    ) -> tuple[float, dict[str, Any]]:
        """The learning rate that is best on a share of train, and what a reader has to know of it."""
        import torch

        order = np.random.default_rng((self.seed, 1)).permutation(len(train))
        num_val = max(round(self.val_share * len(train)), 1)
        val, rest = (
            Split(train.rows[part], train.labels[part])
            for part in (np.sort(order[:num_val]), np.sort(order[num_val:]))
        )
        probes, _ = self._fit(lrs, features, rest, num_classes, device)
        several = train.labels.ndim == 2
        scores = torch.cat([*_predict(probes, features, val, several, device)], dim=1).cpu()
        if several:
            values = [map_of_those_present(one.nan_to_num(-torch.inf).numpy(), val.labels) for one in scores]
        else:
            truth = torch.from_numpy(val.labels)
            values = [float((rank_of_truth(one, truth) == 0).float().mean()) for one in scores]
        best = int(np.argmax(values))  # of equal ones the smallest
        return lrs[best], {
            "lr": lrs[best],
            "lrs": lrs,
            "lr_at_end": best in (0, len(lrs) - 1),
            "tuned_on": f"{num_val} samples of train; then fitted on all {len(train)}",
            "val_map" if several else "val_top1": values,
        }

    def _fit(
        self, lrs: list[float], features: np.ndarray, train: Split, num_classes: int, device: str
    ) -> tuple["Probes", "Tensor"]:
        """Probes in eval mode, one for each learning rate, and their last losses, (L,)."""
        import torch

        from cf_lightning.transfer.probes import Probes, losses

        flat, train = _by_view(features, train)
        probes = Probes(flat.shape[1], num_classes, len(lrs), self.seed).to(device)
        optimizer = probes.optimizer([lr * self.batch_size / 256 for lr in lrs], self.weight_decay)
        steps = self.epochs * len(list(self._batches(len(train), 0)))
        milestones = [round(fraction * steps) for fraction in self.milestones]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
        with progress_bar(self.epochs * len(train), "samples") as progress:
            for epoch in range(self.epochs):
                progress.set_postfix_str(f"epoch {epoch + 1}/{self.epochs}", refresh=False)
                for batch in self._batches(len(train), epoch):
                    labels = torch.from_numpy(train.labels[batch]).to(device)
                    loss = losses(probes(load(flat, train.rows[batch], device)), labels)
                    optimizer.zero_grad()
                    torch.autograd.backward(loss.sum())
                    optimizer.step()
                    schedule.step()
                    progress.update(len(batch))
        return probes.eval(), loss.detach()

    def _batches(self, num_samples: int, epoch: int) -> Iterator[np.ndarray]:
        """Positions of an epoch's batches; a last batch of one is left out, since batch norm needs two."""
        order = np.random.default_rng((self.seed, epoch)).permutation(num_samples)
        for start in range(0, num_samples - 1, self.batch_size):
            yield np.sort(order[start : start + self.batch_size])  # ascending rows read faster from disk


def _by_view(features: np.ndarray, split: Split) -> tuple[np.ndarray, Split]:
    """(N, V, D) features as (N * V, D), each view a sample."""
    if features.ndim == 2:
        return features, split
    return features.reshape(-1, features.shape[-1]), split.views(features.shape[1])


def _predict(
    probes: "Probes", features: np.ndarray, split: Split, several: bool, device: str
) -> Iterator["Tensor"]:
    """(L, b, C) scores of the samples, in order; of several views the mean of their probabilities."""
    import torch

    for start in range(0, len(split), CHUNK):
        chunk = slice(start, start + CHUNK)
        flat, views = _by_view(features, Split(split.rows[chunk], split.labels[chunk]))
        with torch.inference_mode():
            scores = probes(load(flat, views.rows, device))
            if features.ndim == 3:
                shares = scores.sigmoid() if several else scores.softmax(2)
                scores = shares.unflatten(1, (-1, features.shape[1])).mean(2)
        yield scores
