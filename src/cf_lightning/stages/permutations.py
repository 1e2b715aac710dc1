"""The orders of pieces that a jigsaw asks for: far from each other, so that every piece tells."""

import itertools
import json
import math
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError
from cf_lightning.stages.base import Stage


class Permutations(Stage):
    """Choose permutations one by one, each the farthest on average from those before it.

    Algorithm 1 of Noroozi and Favaro 2016 (section 4.2), in its version of maximal average Hamming distance,
    which VISSL's files of 100, 2,000 and 10,000 permutations have too. Ties fall by the seed.

    Writes ``permutations.npy``, (P, grid**2) uint8: position j of an order shows cell ``order[j]``, cells
    counted row by row.

    Attributes:
        grid: cells to a side.
        count: P.
        seed: of the first one and of ties.
    """

    RANKS: ClassVar[Literal["all", "one"]] = "one"

    grid: int = Field(default=3, ge=2, le=3)
    count: int = Field(default=2000, ge=2)
    seed: int = Field(default=0, ge=0)

    def check(self, **indexes: Index) -> None:
        """There are as many permutations."""
        most = math.factorial(self.grid**2)
        if self.count > most:
            raise ConfigError(
                f"needs.permutations.count={self.count}: the pieces of a grid of {self.grid} x {self.grid} "
                f"have {most} orders; at most {most}"
            )

    def run(self, out: Path, **inputs: Path) -> None:
        """Choose, and describe how far apart they are, in pieces of the ``grid**2`` that differ."""
        rng = np.random.default_rng(self.seed)
        orders, average, least = _far_apart(self.grid**2, self.count, rng)
        np.save(out / "permutations.npy", orders)
        facts = {"permutations": len(orders), "average_distance": round(average, 4), "least_distance": least}
        (out / "facts.json").write_text(json.dumps(facts))


def _far_apart(pieces: int, count: int, rng: np.random.Generator) -> tuple[np.ndarray, float, int]:
    """(count, pieces) uint8, and the average and the least Hamming distance of two of them."""
    every = np.array(list(itertools.permutations(range(pieces))), dtype=np.uint8)
    pool = np.ascontiguousarray(rng.permutation(every).T)  # (pieces, M): a position's values lie together
    shared = np.zeros(pool.shape[1], dtype=np.int32)  # positions in common with all that are chosen
    chosen: list[int] = []
    shared_by_pairs = most_shared = 0
    for _ in range(count):
        best = int(shared.argmin())
        alike = np.zeros(pool.shape[1], dtype=np.uint8)
        for values, value in zip(pool, pool[:, best], strict=True):
            alike += values == value
        shared_by_pairs += int(shared[best])
        most_shared = max(most_shared, int(alike[chosen].max(initial=0)))
        shared += alike
        shared[best] = np.iinfo(np.int32).max // 2  # never again
        chosen.append(best)
    average = pieces - shared_by_pairs / math.comb(count, 2)
    return np.ascontiguousarray(pool[:, chosen].T), average, pieces - most_shared
