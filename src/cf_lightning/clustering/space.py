"""The space in which features are clustered: float32, free of NaN, normalised or projected as asked."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from cf_lightning.config import Component
from cf_lightning.errors import ConfigError, DataError
from cf_lightning.rows import RowFile


@dataclass(frozen=True)
class Transform:
    """A fitted map from features to the space, the same for the rows it was fitted on and all others.

    Attributes:
        mean: (D,) float32 to subtract, or ``None``.
        components: (D, d) float32 to multiply with, or ``None``.
        normalize: divide each row by its L2 norm at the end.
    """

    mean: np.ndarray | None
    components: np.ndarray | None
    normalize: bool

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """(n, d) float32 of (n, D) float32."""
        if self.mean is not None and self.components is not None:
            rows = (rows - self.mean) @ self.components
        if self.normalize:
            with np.errstate(divide="ignore", invalid="ignore"):  # rows of zeros: found by whoever writes
                rows = rows / np.sqrt(squared_norms(rows))[:, None]
        return rows

    def save(self, folder: Path) -> None:
        """Write ``mean.npy`` and ``components.npy`` if there is a projection."""
        if self.mean is not None and self.components is not None:
            np.save(folder / "mean.npy", self.mean)
            np.save(folder / "components.npy", self.components)


class FeatureSpace(Component):
    """How features are prepared for k-means: nothing, L2, or a principal component analysis and then L2.

    Attributes:
        pca: project to so many principal components of the fitted rows; ``null`` does not.
        whiten: divide each component by its standard deviation.
        normalize: ``l2`` divides each row by its norm at the end, as VISSL does; spherical k-means needs it.
    """

    CHUNK_BYTES: ClassVar[int] = 16 * 2**20

    pca: int | None = Field(default=None, ge=1)
    whiten: bool = False
    normalize: Literal["none", "l2"] = "l2"

    @field_validator("whiten")
    @classmethod
    def _has_components(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("pca") is None:
            raise ValueError("there are no components to whiten; set pca to their number")
        return value

    def dim(self, dim: int) -> int:
        """Width d of features of width D."""
        return self.pca or dim

    def write(self, features: np.ndarray, fit_rows: np.ndarray, present: np.ndarray, path: Path) -> Transform:
        """Fit on some rows, and write every row that is present into ``path``; the others become zeros.

        Args:
            features: (N, D) float16 or float32, usually a memmap.
            fit_rows: (n,) int64, ascending.
            present: (m,) int64, ascending, the rows that hold features.
            path: of an (N, d) float32 ``.npy`` file.

        Raises:
            ConfigError: more components than dimensions or rows.
            DataError: NaN, Inf, or a row of zeros that has no direction; names the first rows.
        """
        self._check_finite(features, present)
        transform = self._fit(features, fit_rows)
        file = RowFile(path, (len(features), self.dim(features.shape[1])), np.float32)
        zero = []
        for numbers, chunk in self._chunks(features, present):
            rows = transform(chunk)
            zero.append(numbers[~np.isfinite(rows[:, 0])])
            for start, stop in _runs(numbers):
                file.write(int(numbers[start]), rows[start:stop])
        file.close()
        if len(found := np.concatenate([*zero, present[:0]])):
            raise DataError(
                f"{_name(features)}: {_some(found)} are all zeros and cannot be normalised; look at "
                f"the network that made them, or set cluster.space.normalize=none"
            )
        return transform

    def _fit(self, features: np.ndarray, rows: np.ndarray) -> Transform:
        if self.pca is None:
            return Transform(None, None, self.normalize == "l2")
        most = min(len(rows), features.shape[1])
        if self.pca > most:
            raise ConfigError(
                f"cluster.space.pca={self.pca}: {_name(features)} has {len(rows)} rows to fit on of "
                f"{features.shape[1]} dimensions; choose {most} or less"
            )
        mean, covariance = self._moments(features, rows)
        variances, vectors = np.linalg.eigh(covariance)  # ascending
        variances, vectors = variances[::-1][: self.pca], vectors[:, ::-1][:, : self.pca]
        if self.whiten:
            vectors = vectors / np.sqrt(np.maximum(variances, 1e-12 * variances[0]))
        return Transform(mean.astype(np.float32), vectors.astype(np.float32), self.normalize == "l2")

    def _moments(self, features: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance in float64, in two passes."""
        dim = features.shape[1]
        mean, covariance = np.zeros(dim), np.zeros((dim, dim))
        for _, chunk in self._chunks(features, rows):
            mean += chunk.sum(axis=0, dtype=np.float64) / len(rows)
        for _, chunk in self._chunks(features, rows):
            centred = chunk - mean
            covariance += centred.T @ centred / len(rows)
        return mean, covariance

    def _check_finite(self, features: np.ndarray, rows: np.ndarray) -> None:
        spoilt = [n[~np.isfinite(squared_norms(chunk))] for n, chunk in self._chunks(features, rows)]
        if len(found := np.concatenate([*spoilt, rows[:0]])):
            raise DataError(
                f"{_name(features)}: {_some(found)} hold NaN or Inf; look at the network that made "
                f"them (values above 65504 do not fit float16: extract.dtype=float32)"
            )

    def _chunks(self, features: np.ndarray, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Row numbers and their (n, D) float32 features, at most 16 MB or one row at a time."""
        step = max(1, self.CHUNK_BYTES // (4 * features.shape[1]))
        for start in range(0, len(rows), step):
            numbers = rows[start : start + step]
            yield numbers, np.asarray(features[numbers], dtype=np.float32)


def squared_norms(rows: np.ndarray) -> np.ndarray:
    """(n,) float32 of (n, D); Inf and NaN without a warning."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.einsum("nd,nd->n", rows, rows))


def _runs(numbers: np.ndarray) -> list[tuple[int, int]]:
    """Start and end of each run of consecutive numbers."""
    ends = np.flatnonzero(np.diff(numbers) != 1) + 1
    return list(zip([0, *ends.tolist()], [*ends.tolist(), len(numbers)], strict=True))


def _name(features: np.ndarray) -> str:
    return str(getattr(features, "filename", None) or "features")


def _some(rows: np.ndarray) -> str:
    first = ", ".join(map(str, rows[:5].tolist()))
    return f"{len(rows)} rows ({first}{', ...' if len(rows) > 5 else ''})"
