"""Where the classes of a head lie: all of them on every rank, or divided among the ranks."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributed import ReduceOp
from torch.distributed.nn.functional import all_gather, all_reduce
from torch.nn import functional

from cf_lightning.heads.labels import Labels
from cf_lightning.heads.scores import MASKED, Scores, at_columns, without_columns


class Whole:
    """Every rank has every class and looks at its own samples only."""

    first = 0

    def mine(self, rows: Tensor) -> Tensor:
        """(S,) int64: those of (S,) classes that are here."""
        return rows

    def gather(self, values: Tensor) -> Tensor:
        """(B, ...): of the samples that this rank's classes are compared with."""
        return values

    def averaged(self, classes: Tensor) -> Tensor:
        """(s, D) classes whose gradient is that of the mean over the ranks."""
        if classes.requires_grad and torch.distributed.is_initialized():
            classes.register_hook(_mean)  # type: ignore[no-untyped-call]
        return classes

    def scores(self, logits: Tensor, columns: Tensor, labels: Labels) -> Scores:
        """What a loss is computed from: (B, S) logits, and where (B, T) labels stand in them."""
        return Scores(logits, Labels(columns, labels.weights))


@dataclass(frozen=True)
class Shard:
    """Each rank has a range of the classes and compares it with the samples of all ranks.

    Features travel and weights do not, and no rank ever has all logits (An et al. 2021, "Partial FC",
    section 3.1).

    Attributes:
        rank: of this process,
        world: of so many.
        total: K, the classes of all ranks.
    """

    rank: int
    world: int
    total: int

    @property
    def first(self) -> int:
        """The first class that is here."""
        return self.total * self.rank // self.world

    @property
    def stop(self) -> int:
        """The first class of the next rank."""
        return replace(self, rank=self.rank + 1).first

    def mine(self, rows: Tensor) -> Tensor:
        """(s,) int64: those of (S,) classes that are here."""
        return rows[(rows >= self.first) & (rows < self.stop)]

    def gather(self, values: Tensor) -> Tensor:
        """(R * B, ...) of the samples of all ranks; gradients go back to where a sample is."""
        if values.requires_grad:
            return torch.cat(all_gather(values))  # type: ignore[no-untyped-call]
        return of_all_ranks(values)

    def averaged(self, classes: Tensor) -> Tensor:
        """(s, D) classes whose gradient is that of the mean over the ranks, whose losses add up here."""
        if classes.requires_grad:
            classes.register_hook(lambda gradient: gradient / self.world)  # type: ignore[no-untyped-call]
        return classes

    def scores(self, logits: Tensor, columns: Tensor, labels: Labels) -> Scores:
        """What a loss is computed from: (R * B, s) logits and (R * B, T) columns, (B, T) own labels."""
        width = logits.shape[1]
        if not width:  # none of the classes that compete is here
            logits = functional.pad(logits, (0, 1), value=MASKED)
        return ShardedScores(logits.float(), labels, columns, width, self)

    def part(self, values: Tensor) -> Tensor:
        """This rank's rows of a (K, ...) tensor."""
        return values[self.first : self.stop].clone()

    def assembled(self, part: Tensor) -> Tensor:
        """The (K, ...) tensor of all ranks' parts; every rank has to call this."""
        lengths = [other.stop - other.first for other in map(self._of, range(self.world))]
        padded = part.new_zeros(max(lengths), *part.shape[1:])
        padded[: len(part)] = part
        parts = of_all_ranks(padded).chunk(self.world)
        return torch.cat([rows[:length] for rows, length in zip(parts, lengths, strict=True)])

    def _of(self, rank: int) -> "Shard":
        return replace(self, rank=rank)


@dataclass(frozen=True)
class ShardedScores(Scores):
    """Logits of the samples of all ranks and of a part of the classes; a loss sees its own rank's samples.

    Every rank makes the same calls in the same order, as losses do.

    Attributes:
        logits: (R * B, s) float32 of the classes that are here.
        labels: (B, T) of this rank's samples.
        columns: (R * B, T) int64, where labels of all samples stand in ``logits``; -1 is elsewhere.
        width: s; where that is 0, there is one masked logit all the same.
        place: of this rank.
    """

    columns: Tensor
    width: int
    place: Shard

    def log_p_of_labels(self) -> Tensor:
        """(B, T) float32."""
        return self.positives() - self._log_sum(self.logits)[:, None]

    def mean_log_p(self) -> Tensor:
        """(B,) float32: the mean over all classes that compete."""
        here = self.logits[:, : self.width].sum(1)
        total, count = _sum(torch.stack([here, torch.full_like(here, self.width)]))
        return self._own(total / count) - self._log_sum(self.logits)

    def positives(self) -> Tensor:
        """(B, T) float32."""
        return self._own(_sum(at_columns(self.logits, self.columns) * (self.columns >= 0)))

    def negatives(self) -> Tensor:
        """(B,) float32."""
        return self._log_sum(without_columns(self.logits, self.columns))

    def _log_sum(self, logits: Tensor) -> Tensor:
        """(B,): logarithm of the sum of exp over the classes of all ranks."""
        largest = logits.detach().amax(1)
        torch.distributed.all_reduce(largest, ReduceOp.MAX)
        return self._own(largest + _sum((logits - largest[:, None]).exp().sum(1)).log())

    def _own(self, values: Tensor) -> Tensor:
        return values.chunk(self.place.world)[self.place.rank]


def of_all_ranks(values: Tensor) -> Tensor:
    """(R * B, ...): the (B, ...) values of every rank, without gradients."""
    if not torch.distributed.is_initialized():
        return values
    parts = [torch.empty_like(values) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, values.detach().contiguous())
    return torch.cat(parts)


def _mean(gradient: Tensor) -> Tensor:
    """Over the ranks."""
    mean = gradient.contiguous() / torch.distributed.get_world_size()
    torch.distributed.all_reduce(mean)
    return mean


def _sum(values: Tensor) -> Tensor:
    """Over the ranks; gradients are summed, too."""
    total: Tensor = all_reduce(values)  # type: ignore[no-untyped-call]
    return total
