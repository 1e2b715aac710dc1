"""Rows to cluster, the slow and obvious way to judge the result, and a features artifact."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cf_lightning.clustering.base import Clustering, Fit, KMeans, Watch
from cf_lightning.clustering.kernel import kernels
from cf_lightning.clustering.rows import Rows
from cf_lightning.data.index import Index
from cf_lightning.rows import describe_rows

SQUARE = np.array([[0, 0], [0, 2], [10, 0], [10, 2]], np.float32)
NONE = np.empty(0, np.int64)


def blobs(num_rows: int = 500, dim: int = 8, num_blobs: int = 6, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((num_blobs, dim)) * 3
    points = centres[rng.integers(num_blobs, size=num_rows)] + rng.standard_normal((num_rows, dim))
    return points.astype(np.float32)


def hard_kinds() -> dict[str, np.ndarray]:
    """Rows on which careless arithmetic goes wrong."""
    return {
        "blobs": blobs(700, 20, 9),
        "offset": blobs(600) + np.float32(10_000),
        "duplicates": np.repeat(blobs(120), 5, axis=0),
        "float16": blobs(600).astype(np.float16).astype(np.float32),
        "lattice": np.random.default_rng(0).integers(-2, 3, (600, 4)).astype(np.float32),  # full of ties
        "unit": unit(blobs(600, 33)),
        "tiny": blobs(600) * np.float32(1e-18),
    }


def unit(points: np.ndarray) -> np.ndarray:
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)


def squared(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """(n, K) float64 distances."""
    differences = points[:, None].astype(np.float64) - centroids[None]
    return np.asarray((differences**2).sum(axis=2))


def inertia_of(points: np.ndarray, centroids: np.ndarray) -> float:
    return float(squared(points, centroids).min(axis=1).sum())


def rows_of(points: np.ndarray) -> Rows:
    return Rows(points, np.arange(len(points)))


def fit(engine: KMeans, points: np.ndarray, k: int, seed: int = 0, **job: Any) -> Clustering:
    return engine.fit(rows_of(points), k, seed, Fit(**job))


class Recorder(Watch):
    """Keeps what it is told; stops the fit in one iteration, if asked to."""

    class Stop(Exception):
        pass

    def __init__(self, stop_in: int | None = None) -> None:
        self.lines: list[str] = []
        self.inertia: dict[int, float] = {}
        self.stop_in = stop_in

    def note(self, line: str) -> None:
        self.lines.append(line)

    def iteration(self, number: int, inertia: float) -> None:
        assert number == len(self.inertia) + 1
        self.inertia[number] = inertia
        if number == self.stop_in:
            raise Recorder.Stop


@contextmanager
def no_kernel() -> Iterator[None]:
    """As on a machine without a compiler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", "/nonexistent/cc")
        kernels.cache_clear()
        assert not kernels()
        yield
    kernels.cache_clear()


def make_features(tmp_path: Path, features: np.ndarray, skipped: tuple[int, ...] = (4,)) -> dict[str, Path]:
    """A features artifact and its index, of which every fifth row is val, and an empty folder ``out``."""
    num_rows = len(features)
    empty: dict[str, list[Any]] = {name: [None] * num_rows for name in ("size", "crc", "shard", "offset")}
    lists: dict[str, list[Any]] = {name: [[]] * num_rows for name in ("labels", "tags")}
    split = ["val" if row % 5 == 0 else "train" for row in range(num_rows)]
    index = Index(
        pa.table({"key": [f"{row}" for row in range(num_rows)], "split": split, **lists, **empty}), "here"
    )
    folders = {name: tmp_path / name for name in ("features", "data", "out")}
    for folder in folders.values():
        folder.mkdir()
    index.write(folders["data"])
    np.save(folders["features"] / "features.npy", features)
    np.save(folders["features"] / "skipped.npy", np.array(skipped, np.int64))
    describe_rows(folders["features"], "features", index)
    return folders


RANK = """
import sys
from pathlib import Path

import torch
from {module} import run_all

torch.distributed.init_process_group("gloo")
folder = Path(sys.argv[1]) / f"rank{{torch.distributed.get_rank()}}"
folder.mkdir()
run_all(folder, *map(Path, sys.argv[2:]))
torch.distributed.destroy_process_group()
"""


def assert_ranks_agree(module: str, num_ranks: int, folder: Path, cases: list[str], *more: Path) -> None:
    """Call a test module's ``run_all(folder, *more)`` on ranks; each writes what lies in ``folder/alone``."""
    script = folder / "ranks.py"
    script.write_text(RANK.format(module=module))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={num_ranks}", str(script), str(folder), *map(str, more)]
    paths = {"PYTHONPATH": ":".join([str(Path(__file__).parent), *sys.path]), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env={**os.environ, **paths}, timeout=600)
    for case in cases:
        alone = np.load(folder / "alone" / f"{case}.npz")
        for rank in range(num_ranks):
            together = np.load(folder / f"rank{rank}" / f"{case}.npz")
            for name in alone.files:
                assert together[name].tobytes() == alone[name].tobytes(), (case, rank, name)
