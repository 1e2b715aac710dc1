"""What a fit will need, said before it starts."""

import time
from pathlib import Path

import numpy as np

from cf_lightning.clustering.base import Device, KMeans
from cf_lightning.clustering.rows import Rows
from cf_lightning.errors import ConfigError


def estimate(engine: KMeans, rows: Rows, k: int, device: Device) -> str:
    """A line with the memory and the time that a fit will take at most.

    The time is that of the multiplications at the speed of a small matrix product, so a rough one, and
    known on a CPU only.

    Raises:
        ConfigError: the fit needs more memory than the machine has free.
    """
    needed, free = engine.memory_bytes(len(rows), rows.dim, k), free_memory()
    problem = f"k-means of {len(rows):,} x {rows.dim} into {k:,} clusters needs {_size(needed)} of memory"
    if free is not None and needed > free:
        raise ConfigError(f"k={k}: {problem}, and {_size(free)} are free; {_way_out(engine, rows, k, free)}")
    if device == "cuda":
        return problem
    seconds = engine.num_products(len(rows), k) * rows.dim / _products_per_second(rows.dim)
    return f"{problem} and at most about {_duration(seconds)}"


def _way_out(engine: KMeans, rows: Rows, k: int, free: int) -> str:
    fixed = engine.memory_bytes(0, rows.dim, k)
    each = (engine.memory_bytes(k, rows.dim, k) - fixed) or 1
    most = (free - fixed) // each
    if most < 1:
        return "choose a smaller k, or fewer dimensions with cluster.space.pca"
    return (
        f"set cluster.max_points_per_centroid={most} or less, fewer dimensions with cluster.space.pca, or "
        f"an engine that leaves the rows on disk (cluster/engine=lloyd)"
    )


def _products_per_second(dim: int) -> float:
    """Multiplications and additions of a float32 matrix product."""
    left, right = np.ones((2048, dim), np.float32), np.ones((dim, 512), np.float32)
    left @ right
    start = time.perf_counter()
    left @ right
    return 2048 * 512 * dim / (time.perf_counter() - start)


def free_memory() -> int | None:
    """Bytes that the machine has free and the container allows; ``None`` where that is unknown."""
    meminfo, limit = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    if not meminfo.exists():
        return None
    lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        free = min(free, int(text))
    return free


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.0f} MB"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(1, seconds):.0f} s"
