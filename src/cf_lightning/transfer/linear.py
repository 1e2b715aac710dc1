"""The linear probe: how linearly separable a frozen trunk's features are."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from cf_lightning.errors import ConfigError
from cf_lightning.progress import progress_bar
from cf_lightning.transfer.base import Protocol, Score, Split, accuracies, load, rank_of_truth

if TYPE_CHECKING:
    from torch import nn

CHUNK = 1024  # test samples of one forward pass; changes no number


class LinearProbe(Protocol):
    """Batch norm and one linear layer, trained with SGD on cached features.

    The settings are VISSL's for ImageNet-1K (``eval_resnet_8gpu_transfer_in1k_linear``, after Goyal et
    al. 2019, section 6.1): batch norm with scale and shift and without weight decay, Nesterov momentum
    0.9, the learning rate divided by 10 three times. It differs in one thing: features are those of the
    centre view, cached once, so there are no random crops and flips.

    Where samples have several views (the clips of a video), each view is a sample of the training, and the
    probabilities of a test sample are the mean over its views (Tran et al. 2018, section 4.1).

    Attributes:
        epochs: passes over the training samples; a small target needs more of them for as many steps.
        lr: learning rate for 256 samples; scales with ``batch_size``.
        batch_size: samples of one step.
        weight_decay: of the linear layer.
        milestones: where in training, as fractions of its steps, the learning rate is divided by 10.
        seed: of the initial weights and the order of samples.
    """

    NAME: ClassVar[str] = "linear"
    OF_VIEWS: ClassVar[bool] = True
    VERSION: ClassVar[int] = 1

    epochs: int = Field(default=28, ge=1)
    lr: float = Field(default=0.01, gt=0)
    batch_size: int = Field(default=256, ge=2)
    weight_decay: float = Field(default=5e-4, ge=0)
    milestones: list[Annotated[float, Field(gt=0, lt=1)]] = [8 / 28, 16 / 28, 24 / 28]
    seed: int = Field(default=0, ge=0)

    def evaluate(self, features: np.ndarray, train: Split, test: Split, device: str) -> list[Score]:
        """Train on ``train``, measure on ``test``; the same seed on the same device gives the same scores.

        Raises:
            ConfigError: training diverged.
            DataError: a feature is not finite.
        """
        import torch

        num_classes = int(train.labels.max()) + 1
        views = 1 if features.ndim == 2 else features.shape[1]
        features = features.reshape(-1, features.shape[-1])
        probe = self._initial(features.shape[1], num_classes).to(device)
        self._fit(probe, features, train.views(views), device)
        rows, ranks = test.views(views).rows, []
        with torch.inference_mode():
            for start in range(0, len(test), CHUNK):
                chunk = slice(start, start + CHUNK)
                scores = probe(load(features, rows[start * views : (start + CHUNK) * views], device))
                if views > 1:
                    scores = scores.softmax(1).unflatten(0, (-1, views)).mean(1)
                labels = torch.from_numpy(test.labels[chunk]).to(device)
                ranks.append(rank_of_truth(scores, labels).cpu().numpy())
        return accuracies(np.concatenate(ranks), num_classes, self.model_dump())

    def _initial(self, dim: int, num_classes: int) -> "nn.Module":
        """Batch norm -> linear with torch's default initial weights, drawn from a generator of its own."""
        import torch
        from torch import nn

        linear = nn.Linear(dim, num_classes, device="meta").to_empty(device="cpu")
        generator = torch.Generator().manual_seed(self.seed)
        for parameter in linear.parameters():
            nn.init.uniform_(parameter, -(dim**-0.5), dim**-0.5, generator=generator)
        return nn.Sequential(nn.BatchNorm1d(dim, eps=1e-5, momentum=0.1), linear)

    def _fit(self, probe: "nn.Module", features: np.ndarray, train: Split, device: str) -> None:
        """Train in place and leave the probe in eval mode."""
        import torch
        from torch.nn.functional import cross_entropy

        norm, linear = probe.children()
        optimizer = torch.optim.SGD(
            [
                {"params": norm.parameters(), "weight_decay": 0.0},
                {"params": linear.parameters(), "weight_decay": self.weight_decay},
            ],
            lr=self.lr * self.batch_size / 256,
            momentum=0.9,
            nesterov=True,
        )
        steps = self.epochs * len(list(self._batches(len(train), 0)))
        milestones = [round(fraction * steps) for fraction in self.milestones]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
        with progress_bar(self.epochs * len(train), "samples") as progress:
            for epoch in range(self.epochs):
                progress.set_postfix_str(f"epoch {epoch + 1}/{self.epochs}", refresh=False)
                for batch in self._batches(len(train), epoch):
                    labels = torch.from_numpy(train.labels[batch]).to(device)
                    loss = cross_entropy(probe(load(features, train.rows[batch], device)), labels)
                    optimizer.zero_grad()
                    torch.autograd.backward(loss)
                    optimizer.step()
                    schedule.step()
                    progress.update(len(batch))
        if not loss.isfinite():
            raise ConfigError(f"transfer.linear.protocol.lr={self.lr}: the probe diverged; try a tenth of it")
        probe.eval()

    def _batches(self, num_samples: int, epoch: int) -> Iterator[np.ndarray]:
        """Positions of an epoch's batches; a last batch of one is left out, since batch norm needs two."""
        order = np.random.default_rng((self.seed, epoch)).permutation(num_samples)
        for start in range(0, num_samples - 1, self.batch_size):
            yield np.sort(order[start : start + self.batch_size])  # ascending rows read faster from disk
