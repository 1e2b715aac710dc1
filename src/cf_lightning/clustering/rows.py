"""The rows that k-means works on: some rows of a feature file that may be larger than memory."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np


@dataclass(frozen=True)
class Rows:
    """Rows of a feature file, read block by block.

    Attributes:
        features: (N, D) float32, C-contiguous, usually a memmap; in the clustered space.
        numbers: (n,) int64, ascending: which of them.
    """

    features: np.ndarray
    numbers: np.ndarray

    BLOCK_BYTES: ClassVar[int] = 32 * 2**20

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def dim(self) -> int:
        """D."""
        return int(self.features.shape[1])

    @cached_property
    def _is_contiguous(self) -> bool:
        return len(self) > 0 and int(self.numbers[-1] - self.numbers[0]) == len(self) - 1

    def take(self, positions: np.ndarray) -> Self:
        """The rows at these ascending positions, 0 <= position < n."""
        return replace(self, numbers=self.numbers[positions])

    def load(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """(stop - start, D) float32, C-contiguous; a view of the file where the rows lie side by side."""
        numbers = self.numbers[start:stop]
        if self._is_contiguous and len(numbers):
            return np.asarray(self.features[numbers[0] : numbers[-1] + 1])
        return np.asarray(self.features[numbers])

    def blocks(
        self, start: int = 0, stop: int | None = None, device: str = "cpu"
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Position and rows of block after block of at most 32 MB (128 MB for a GPU), or of one row."""
        stop = len(self) if stop is None else stop
        block_bytes = self.BLOCK_BYTES * (4 if device == "cuda" else 1)
        step = max(1, block_bytes // (4 * self.dim))
        for first in range(start, stop, step):
            yield first, self.load(first, min(first + step, stop))
