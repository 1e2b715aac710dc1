"""Resampled test samples: intervals of what no formula has, and paired differences of contestants."""

from collections.abc import Iterator

import numpy as np

DRAWS = 1000
SEED = 0  # one for all contestants: in a draw each is measured on the same samples
CELLS = 4_000_000  # of samples x draws that are looked at together: 16 MB of counts


def resampled(num_samples: int) -> Iterator[np.ndarray]:
    """How often each sample is in a draw of as many, with replacement: blocks of (n, b) int32."""
    generator = np.random.default_rng(SEED)
    block = max(CELLS // num_samples, 1)
    for start in range(0, DRAWS, block):
        drawn = generator.integers(num_samples, size=(min(block, DRAWS - start), num_samples))
        yield np.stack([np.bincount(draw, minlength=num_samples) for draw in drawn], axis=1).astype(np.int32)


def drawn_means(values: np.ndarray) -> np.ndarray:
    """(M, DRAWS) float64: the means of M numbers that each test sample has, (n, M), over resampled ones."""
    blocks = [values.T.astype(np.float64) @ counts for counts in resampled(len(values))]
    return np.concatenate(blocks, axis=1) / len(values)


def percentiles(draws: np.ndarray) -> tuple[float, float]:
    """The 95 % interval that (DRAWS,) values of one number span."""
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def paired(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """The difference of two contestants that were measured on the same draws, (DRAWS,) each.

    Returns:
        ``ci_low`` and ``ci_high``, its 95 % percentile interval, and ``p``, two-sided: twice the share of
        draws on the other side of 0, never below 1 / DRAWS (Efron and Tibshirani 1993, sections 13.3, 15.4).
    """
    differences = after - before
    low, high = percentiles(differences)
    tail = min((differences <= 0).mean(), (differences >= 0).mean())
    return {"ci_low": low, "ci_high": high, "p": float(np.clip(2 * tail, 1 / DRAWS, 1))}
