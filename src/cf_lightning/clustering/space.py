"""The space in which rows are clustered: float32, on the unit sphere if asked, free of NaN."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cf_lightning.errors import DataError


@dataclass(frozen=True)
class FeatureSpace:
    """Rows of a feature file as k-means sees them, the same when it fits and when it assigns.

    Attributes:
        features: (N, D) float16 or float32, usually a memmap.
        normalize: divide each row by its L2 norm. VISSL adds 1e-5 to the norm against rows of
            zeros; here those are refused.
    """

    features: np.ndarray
    normalize: bool

    CHUNK_BYTES: ClassVar[int] = 16 * 2**20

    def check(self, rows: np.ndarray) -> None:
        """Look at every one of these rows before any work is done on them.

        Raises:
            DataError: NaN, Inf, or a row of zeros that has no direction; names the first rows.
        """
        spoilt, zero = [], []
        for numbers, chunk in self._raw_chunks(rows):
            squares = _squared_norms(chunk)
            spoilt.append(numbers[~np.isfinite(squares)])
            zero.append(numbers[squares == 0])
        file = getattr(self.features, "filename", "features")
        if len(found := np.concatenate(spoilt)):
            raise DataError(
                f"{file}: {_some(found)} hold NaN or Inf; look at the network that made "
                f"them (values above 65504 do not fit float16: extract.dtype=float32)"
            )
        if self.normalize and len(found := np.concatenate(zero)):
            raise DataError(
                f"{file}: {_some(found)} are all zeros and cannot be normalised; look at "
                f"the network that made them, or set normalize=none"
            )

    def chunks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """These rows in order, as (n, D) float32 arrays of at most 16 MB (or one row)."""
        for _, chunk in self._raw_chunks(rows):
            if self.normalize:
                chunk /= np.sqrt(_squared_norms(chunk))[:, None]
            yield chunk

    def load(self, rows: np.ndarray) -> np.ndarray:
        """(n, D) float32: these rows in order, held in memory once."""
        loaded = np.empty((len(rows), self.features.shape[1]), np.float32)
        start = 0
        for chunk in self.chunks(rows):
            loaded[start : start + len(chunk)] = chunk
            start += len(chunk)
        return loaded

    def num_bytes(self, num_rows: int) -> int:
        """What ``load`` needs for so many rows."""
        return 4 * num_rows * int(self.features.shape[1])

    def _raw_chunks(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        step = max(1, self.CHUNK_BYTES // self.num_bytes(1))
        for start in range(0, len(rows), step):
            numbers = rows[start : start + step]
            yield numbers, np.asarray(self.features[numbers], dtype=np.float32)


def _squared_norms(chunk: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.einsum("nd,nd->n", chunk, chunk))


def _some(rows: np.ndarray) -> str:
    first = ", ".join(map(str, rows[:5].tolist()))
    return f"{len(rows)} rows ({first}{', ...' if len(rows) > 5 else ''})"
