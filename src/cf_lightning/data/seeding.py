"""torch's generator for a while in a state that follows from given numbers and from nothing else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np


@contextmanager
def seeded(numbers: Sequence[int], stream: tuple[int, ...] = ()) -> Iterator[None]:
    """Draws on the CPU within follow from ``numbers``; those after it go on as if there had been none.

    Args:
        numbers: such as seed, epoch and row.
        stream: parts draws from those of the same numbers elsewhere.
    """
    import torch

    state = np.random.SeedSequence(numbers, spawn_key=stream).generate_state(1, np.uint64)[0]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(state))  # torch.manual_seed is of the GPUs, too
        yield
