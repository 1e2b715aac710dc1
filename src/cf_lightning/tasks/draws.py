"""Random numbers of the samples of a batch: a function of (seed, epoch, row) and of nothing else."""

from dataclasses import dataclass

import torch
from torch import Tensor

GOLDEN = -7046029254386353131  # 2**64 divided by the golden ratio, odd, as a signed number


@dataclass(frozen=True)
class Draws:
    """Numbers for each sample, the same on every device and for any number of ranks.

    A counter-based generator: splitmix64 (Steele, Lea and Flood 2014, section 4) of the sample and the
    number of the draw. Quick on a whole batch, and nothing to save or restore.

    Attributes:
        index: (B,) int64, the row of each sample.
        seed: of the training.
        epoch: counted from 0.
    """

    index: Tensor
    seed: int
    epoch: int

    def uniform(self, name: str, count: int = 1) -> Tensor:
        """(B, count) float64 in [0, 1).

        Args:
            name: of what is drawn, at most seven letters; draws of two names know nothing of each other.
            count: numbers for each sample.
        """
        if len(name.encode()) > 7:
            raise ValueError(f"{name}: the name of a draw has at most seven letters")
        stream = int.from_bytes(name.encode(), "big")
        state = torch.full((1, 1), stream, dtype=torch.int64, device=self.index.device)
        columns = torch.arange(count, device=self.index.device)
        for part in (self.seed, self.epoch, self.index[:, None], columns):
            state = _mixed(state + part * GOLDEN if isinstance(part, Tensor) else state + _wrapped(part))
        return _shifted(state, 11).double() * 2.0**-53

    def integers(self, name: str, high: int, count: int = 1) -> Tensor:
        """(B, count) int64 in [0, high)."""
        return (self.uniform(name, count) * high).long()


def _mixed(state: Tensor) -> Tensor:
    """The finaliser of splitmix64; signed products wrap around as unsigned ones do."""
    state = state + GOLDEN
    state = (state ^ _shifted(state, 30)) * -4658895280553007687
    state = (state ^ _shifted(state, 27)) * -7723592293110705685
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, bits: int) -> Tensor:
    """A logical shift to the right."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def _wrapped(number: int) -> int:
    """``number`` times the golden ratio as torch would wrap it."""
    product = number * GOLDEN % 2**64
    return product - 2**64 if product >= 2**63 else product
