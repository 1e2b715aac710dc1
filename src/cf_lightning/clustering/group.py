"""The processes that share one fit, or the one that is alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from cf_lightning.runtime import Runtime


@dataclass(frozen=True)
class Group:
    """Ranks that run the same fit, each on its own contiguous share of the rows.

    What is added over ranks is either integer or float64 on a common grid (see ``sums.ClusterSums``), so the
    order of the additions does not matter and any number of ranks gives the same bits.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> "Group":
        """The ranks of ``torch.distributed``, if this process is one of several."""
        from torch import distributed

        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()

    def share(self, num_rows: int) -> tuple[int, int]:
        """First and last-but-one position of this rank's rows."""
        return self.rank * num_rows // self.size, (self.rank + 1) * num_rows // self.size

    def sum(self, *arrays: np.ndarray) -> None:
        """Add over the ranks, in place."""
        self._reduce(arrays, "SUM")

    def max(self, *arrays: np.ndarray) -> None:
        """The largest of all ranks, element by element, in place."""
        self._reduce(arrays, "MAX")

    def _reduce(self, arrays: tuple[np.ndarray, ...], operation: str) -> None:
        if self.size == 1:
            return
        import torch
        from torch import distributed

        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        for array in arrays:
            tensor = torch.from_numpy(array).to(device)
            distributed.all_reduce(tensor, getattr(distributed.ReduceOp, operation))
            array[...] = tensor.cpu().numpy()


ALONE = Group()


@contextmanager
def process_group(runtime: Runtime) -> Iterator[Group]:
    """The processes that torchrun has started for a stage, connected; or the one that is alone."""
    import torch
    from torch import distributed

    torch.set_num_threads(runtime.num_threads())
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    distributed.init_process_group("gloo")
    try:
        yield Group.current()
    finally:
        distributed.destroy_process_group()
