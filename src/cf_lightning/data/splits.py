"""Which samples are set aside for validation and test where the data does not say."""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa

from cf_lightning.data.index import Index


def hold_out(index: Index, shares: dict[str, float], seed: int | None) -> Index:
    """Move shares of the rows to other splits, if all rows are train.

    Args:
        index: as the data is listed.
        shares: of the rows, by the split that they go to.
        seed: ``None`` decides by the hash of each sample's key, so that a sample stays where it is when
            others come or go; a number draws the same share of every class, rounded to whole samples.
    """
    if set(index.table["split"].to_pylist()) != {"train"} or not any(shares.values()):
        return index
    places = _by_hash(index) if seed is None else _by_class(index, seed)
    splits = np.full(len(index), "train", dtype=object)
    low = 0.0
    for split, share in shares.items():
        splits[(places >= low) & (places < low + share)] = split
        low += share
    column: Any = pa.array(splits, pa.string())
    position = index.table.schema.get_field_index("split")
    return Index(index.table.set_column(position, "split", column), index.origin)


def _by_hash(index: Index) -> np.ndarray:
    """(N,) float64 in [0, 1), from each sample's key alone."""
    draws = [hashlib.sha256(key.encode()).digest()[:4] for key in index.table["key"].to_pylist()]
    return np.frombuffer(b"".join(draws), dtype=">u4") / 2**32


def _by_class(index: Index, seed: int) -> np.ndarray:
    """(N,) float64 in (0, 1): the n samples of a class, in an order drawn for it, at (i + 0.5) / n."""
    names = [" ".join(labels) for labels in index.table["labels"].to_pylist()]
    _, codes = np.unique(names, return_inverse=True)
    places = np.empty(len(index))
    for code in range(codes.max() + 1):
        rows = np.flatnonzero(codes == code)
        places[np.random.default_rng([seed, code]).permutation(rows)] = (np.arange(len(rows)) + 0.5) / len(
            rows
        )
    return places
