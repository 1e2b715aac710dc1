"""Which rows a rank sees, and when: global batches and row blocks that no number of ranks changes.

Both samplers are ``DistributedSampler`` by type, so that Lightning leaves them in place.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler


class EpochSampler(DistributedSampler[Any]):
    """Shuffled rows of one epoch for one rank; the order is a function of (seed, epoch) alone.

    Global batch b is the same set of samples for any number of ranks; the last incomplete one is
    dropped. Items are ``(epoch, row)``, so that a loader's worker processes need no state.

    Args:
        rows: (n,) int64 rows to draw from.
        weights: (n,) float64, how often a row is drawn relative to the others (with replacement, n
            draws an epoch); ``None`` draws every row once.
        batch_size: of all ranks together; a multiple of ``num_replicas``.
        had: called when an epoch begins, the samples of it that this rank has had in an earlier attempt.
    """

    def __init__(
        self,
        rows: np.ndarray,
        weights: np.ndarray | None,
        batch_size: int,
        seed: int,
        rank: int = 0,
        num_replicas: int = 1,
        had: Callable[[], int] = int,
    ) -> None:
        if batch_size % num_replicas:
            raise ValueError(f"a global batch of {batch_size} cannot be divided by {num_replicas} devices")
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.weights = None if weights is None else weights / weights.sum()
        self.had = had
        self.rank, self.num_replicas, self.epoch = rank, num_replicas, 0

    def __len__(self) -> int:
        return len(self.rows) // self.batch_size * self.batch_size // self.num_replicas

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.weights is None:
            order = rng.permutation(self.rows)
        else:
            order = rng.choice(self.rows, len(self.rows), p=self.weights)
        whole, epoch = len(self) * self.num_replicas, self.epoch
        mine = order[:whole][self.rank :: self.num_replicas]
        for row in mine[self.had() :].tolist():
            yield epoch, row


class BlockSampler(DistributedSampler[Any]):
    """Consecutive rows in blocks of one batch; each rank owns a contiguous range of blocks.

    A forward pass sees the same block whatever the number of ranks and wherever a killed run
    continues, so its bits are the same. The last block is filled up by repeating its last row.

    Args:
        num_rows: N.
        batch_size: rows in a block.
        pending: (N,) bool, rows still to be computed (``None``: all); blocks without any are left out.
    """

    def __init__(
        self,
        num_rows: int,
        batch_size: int,
        pending: np.ndarray | None = None,
        rank: int = 0,
        num_replicas: int = 1,
    ) -> None:
        self.num_rows, self.batch_size = num_rows, batch_size
        blocks = np.arange(-(-num_rows // batch_size))
        mine = np.array_split(blocks, num_replicas)[rank]
        if pending is not None:
            due = np.add.reduceat(pending, blocks * batch_size) > 0
            mine = mine[due[mine]]
        self.blocks = mine
        self.rank, self.num_replicas, self.epoch = rank, num_replicas, 0

    def __len__(self) -> int:
        return len(self.blocks) * self.batch_size

    def __iter__(self) -> Iterator[int]:
        for block in self.blocks.tolist():
            rows = np.arange(block * self.batch_size, (block + 1) * self.batch_size)
            yield from np.minimum(rows, self.num_rows - 1).tolist()


class RankSampler(DistributedSampler[Any]):
    """Given rows in order, every ``num_replicas``-th for one rank: validation.

    All ranks have as many, for they may have to compute together: where some would have one less, it is the
    last row once more, as ``~row``.
    """

    def __init__(self, rows: np.ndarray, rank: int = 0, num_replicas: int = 1) -> None:
        filling = np.repeat(~rows[-1:], -len(rows) % num_replicas)
        self.mine = np.concatenate([rows, filling])[rank::num_replicas]
        self.rank, self.num_replicas, self.epoch = rank, num_replicas, 0

    def __len__(self) -> int:
        return len(self.mine)

    def __iter__(self) -> Iterator[int]:
        return iter(self.mine.tolist())
