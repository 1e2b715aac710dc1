"""``Head``: the class vectors of one or several heads, and which of them compete in a step."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cf_lightning.heads.labels import Labels
from cf_lightning.heads.place import Shard, Whole, of_all_ranks
from cf_lightning.heads.scores import Scores
from cf_lightning.tasks.draws import Draws


class Head(nn.Module):
    """A linear layer; those of several heads lie side by side in one matrix.

    With a ``rate`` below 1 the classes of a training step are those of the global batch, and each other
    one with that probability (An et al. 2022, "Killing Two Birds with One Stone", section 3.2, who draw a
    fixed number): so the costs of a step hardly grow with the number of classes.

    Args:
        feature_dim: D.
        widths: classes of each head; K is their sum.
        bias: whether classes have a bias.
        rate: probability that a class without a sample in the batch competes, in (0, 1].
        embed: what features pass before, to (B, D); default nothing.

    Attributes:
        weight: (K, D) float32, or this rank's part of it.
        bias: (K,) float32, likewise, or ``None``.
        place: where the classes lie: here, or divided among the ranks.
        used: (s,) int64, the rows of ``weight`` in the last training step; ``None`` is all of them.
        taken: copies of these rows of all ``classes()``, which get the gradients: to fill one of (K, D) with
            zeros would take longer than all else that a step does here.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        feature_dim: int,
        widths: Sequence[int],
        *,
        bias: bool = True,
        rate: float = 1.0,
        embed: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.embed = embed or nn.Identity()
        self.widths, self.rate = list(widths), rate
        linear = nn.Linear(feature_dim, sum(self.widths), bias=bias)
        self.weight = nn.Parameter(linear.weight.data)
        self.bias = nn.Parameter(linear.bias.data) if bias else None
        self.place: Whole | Shard = Whole()
        self.used: Tensor | None = None
        self.taken: list[Tensor] = []

    def reset_parameters(self) -> None:
        """Draw new classes, all of them: a head that is divided calls ``forget``."""
        nn.init.kaiming_uniform_(self.weight, 5**0.5)  # as nn.Linear does
        if self.bias is not None:
            nn.init.uniform_(self.bias, -(self.weight.shape[1] ** -0.5), self.weight.shape[1] ** -0.5)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) to (B, K) logits, of all heads side by side."""
        return self.compare(self.embed(features), *self.classes())

    def compare(self, features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, S) logits of (B, D) features and (S, D) classes."""
        return functional.linear(features, weight, bias)

    def hardened(self, logits: Tensor, columns: Tensor) -> Tensor:
        """(B, S) logits as the loss of a training step sees them, with (B, T) labels in these columns."""
        return logits

    def scores(self, features: Tensor, labels: Sequence[Labels], seed: int, step: int) -> list[Scores]:
        """What the loss of each head is computed from.

        Args:
            features: (B, D) of this rank's samples.
            labels: of the same samples, for each head.
            seed: which classes compete follows from it,
            step: and from the number of the step, alike on every rank.
        """
        if self.training and (self.rate < 1 or isinstance(self.place, Shard)):
            return list(self._of_some(self.embed(features), labels, seed, step))
        parts = self(features).split(self.widths, dim=1)
        if self.training:
            parts = [self.hardened(part, own.classes) for part, own in zip(parts, labels, strict=True)]
        return [Scores(part, own) for part, own in zip(parts, labels, strict=True)]

    def _of_some(self, features: Tensor, labels: Sequence[Labels], seed: int, step: int) -> Iterator[Scores]:
        """Of the classes that compete and are here."""
        features, starts = self.place.gather(features), _starts(self.widths)
        competing = [
            self.place.mine(first + self._competing(own.classes, first, width, seed, step))
            for first, width, own in zip(starts, self.widths, labels, strict=True)
        ]
        if self.rate < 1:
            self.used = torch.cat(competing) - self.place.first
            self.taken = [classes.detach()[self.used].requires_grad_() for classes in self.classes()]
        lengths = [len(rows) for rows in competing]
        parts = zip(*(torch.split(own, lengths) for own in self.taken or self.classes()), strict=True)
        heads = zip(starts, self.widths, labels, competing, parts, strict=True)
        for first, width, own, rows, here in heads:
            column = torch.full((width + 1,), -1, device=rows.device)  # the last one is that of label -1
            column[rows - first] = torch.arange(len(rows), device=rows.device)
            columns = column[self.place.gather(own.classes)]
            logits = self.compare(features, *map(self.place.averaged, here))
            logits = self.hardened(logits, columns)
            yield self.place.scores(logits, columns, own)

    def _competing(self, classes: Tensor, first: int, width: int, seed: int, step: int) -> Tensor:
        """(S,) int64, ascending: of one head's classes those that take part in this step."""
        every = torch.arange(width, device=classes.device)
        if self.rate == 1:
            return every
        chosen = Draws(first + every, seed, step).uniform("compete")[:, 0] < self.rate
        present = of_all_ranks(classes)
        chosen[present[present >= 0]] = True
        return every[chosen]

    def divide(self, rank: int, world: int) -> None:
        """Keep this rank's part of the classes; only training works then."""
        self.place = Shard(rank, world, sum(self.widths))
        for classes in self.classes():
            classes.data = self.place.part(classes.data)

    def assemble(self) -> None:
        """Have all classes again; every rank has to call this."""
        if isinstance(self.place, Shard):
            for classes in self.classes():
                classes.data = self.place.assembled(classes.data)
            self.place = Whole()

    def forget(self) -> None:
        """Draw new classes, as where they get another meaning; every rank has to call this."""
        place = self.place
        self.assemble()
        self.reset_parameters()
        if isinstance(place, Shard):
            self.divide(place.rank, place.world)

    def classes(self) -> list[nn.Parameter]:
        """The parameters that have a row for each class."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]


def _starts(widths: Sequence[int]) -> list[int]:
    """Where each head's classes begin."""
    return [sum(widths[:number]) for number in range(len(widths))]
