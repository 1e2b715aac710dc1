"""The inner loop of k-means on a CPU: ``kernel.c``, compiled at first use."""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

log = logging.getLogger(__name__)

FLAGS = ("-std=gnu11", "-O3", "-march=native", "-shared", "-fPIC")
FP32 = "-mno-avx512bf16"  # leaves the float32 variant where the processor has bf16, too
CACHE_LINE = 64  # bytes


@dataclass(frozen=True)
class Packed:
    """Centroids as the kernel reads them.

    Attributes:
        shape: K and D.
        centre: (D,) float32, what was taken from the centroids and has to be taken from the rows.
        cells: float32 cells in the kernel's order; in bf16 precision each holds two dimensions.
        halves: float32, half squared norms, rounded from float64; infinity for the padding.
        reach: (2,) float64, the largest ``|c|`` and the largest ``|c - stored c|``.
    """

    shape: tuple[int, int]
    centre: np.ndarray
    cells: np.ndarray
    halves: np.ndarray
    reach: np.ndarray


class Kernel:
    """The compiled kernel.

    Attributes:
        precision: of the operands, ``bf16`` where the processor multiplies it, or ``fp32``.
    """

    def __init__(self, library: Path) -> None:
        self._c = _declare(ctypes.CDLL(str(library)))
        self.precision: str = self._c.precision().decode()

    def pack(self, centroids: np.ndarray, centre: np.ndarray) -> Packed:
        """Prepare (K, D) float32, finite centroids; errors are small if (D,) float32 centre is near."""
        k, dim = centroids.shape
        moved = np.empty((k, dim), np.float32)  # no float64 copy of them all
        np.subtract(centroids, centre.astype(np.float64), out=moved, casting="same_kind")
        cells, halves = _aligned(self._c.num_cells(k, dim)), _aligned(self._c.num_halves(k))
        reach = np.empty(2)
        if self._c.pack(moved, k, dim, cells, halves, reach):
            raise MemoryError
        return Packed((k, dim), centre, cells, halves, reach)

    def nearest_two(
        self, rows: np.ndarray, packed: Packed, num_threads: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The best centroid of each row by the score x.c - |c|^2 / 2; larger is nearer.

        Here x and c are row and centroid less the centre.

        A row's results depend neither on the other rows nor on the number of threads. Rows that are not
        finite, or beyond the range of float32, have an infinite error and some label.

        Args:
            rows: (n, D) float32, C-contiguous.
            packed: K centroids.
            num_threads: to compute with.

        Returns:
            (n,) int32 labels, of equal scores the lowest; (n,) float32 best and second-best scores, the
            latter minus infinity if K is 1; (n,) float32, a bound on the distance between the computed and
            the exact score that holds for every centroid (derived in ``kernel.c``). So the label is
            certain if ``best - second > 2 * error``.
        """
        n, dim = rows.shape
        k = packed.shape[0]
        if dim != packed.shape[1]:
            raise ValueError(f"rows have {dim} columns and centroids {packed.shape[1]}")
        labels = np.empty(n, np.int32)
        best, second, error = np.empty((3, n), np.float32)

        def work(start: int, stop: int) -> None:
            part = slice(start, stop)
            outputs = labels[part], best[part], second[part], error[part]
            inputs = packed.cells, packed.halves, k, packed.reach
            if self._c.nearest_two(rows[part], stop - start, dim, packed.centre, *inputs, *outputs):
                raise MemoryError

        # several slices a thread: cores that others use too finish later
        _in_parallel(work, n, max(256, -(-n // (4 * num_threads))), num_threads)
        return labels, best, second, error

    def square(self, rows: np.ndarray, num_threads: int) -> np.ndarray:
        """(n,) float64, the squared norms of (n, D) float32, C-contiguous rows."""
        n, dim = rows.shape
        norms = np.empty(n)

        def work(start: int, stop: int) -> None:
            self._c.square(rows[start:stop], stop - start, dim, norms[start:stop])

        _in_parallel(work, n, max(256, -(-n // num_threads)), num_threads)
        return norms

    def add(
        self,
        sums: np.ndarray,
        rows: np.ndarray,
        labels: np.ndarray,
        sign: int,
        rounder: float,
        num_threads: int,
    ) -> None:
        """``sums[labels[i]] += sign * ((rows[i] + rounder) - rounder)`` in float64, in the order of the rows.

        Each thread has columns of its own, so the number of threads does not change the order.

        Args:
            sums: (K, D) float64, C-contiguous, changed in place.
            rows: (n, D) float32, C-contiguous.
            labels: (n,) int32 or int64 below K; rows with a negative label are skipped.
            sign: 1 or -1.
            rounder: rounds to multiples of its last bit; 0 does not round.
            num_threads: to compute with.
        """
        n, dim = rows.shape
        labels = np.ascontiguousarray(labels, np.int64)
        if sums.shape[1] != dim or labels.shape != (n,) or labels.max(initial=-1) >= len(sums):
            raise ValueError(f"sums {sums.shape}, rows {rows.shape} and labels {labels.shape} do not fit")

        def work(first: int, last: int) -> None:
            self._c.add(sums, dim, rows, n, labels, sign, rounder, first, last)

        columns = CACHE_LINE // rows.itemsize
        _in_parallel(work, dim, -(-dim // (num_threads * columns)) * columns, num_threads)


@functools.cache
def kernels() -> tuple[Kernel, ...]:
    """The kernels of this machine, from the fastest to the most precise.

    There are none, and one warning in the log, if they cannot be had. They are compiled once for this
    source, compiler and processor, and kept in the user's cache folder. ``$CC`` names another compiler
    than ``cc``, and ``$XDG_CACHE_HOME`` another folder than ``~/.cache``.
    """
    try:
        fastest = Kernel(_build(FLAGS))
        return (fastest, Kernel(_build((*FLAGS, FP32)))) if fastest.precision == "bf16" else (fastest,)
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        output = getattr(error, "stderr", None) or str(error)
        reason = next((line for line in output.splitlines() if "error:" in line), output.strip())
        log.warning(
            "k-means uses its slower path, there is no compiled kernel: %s (it takes an x86 processor with "
            "AVX2, and gcc or clang as cc or $CC)",
            " ".join(reason.split()),
        )
        return ()


def _build(flags: tuple[str, ...]) -> Path:
    """The shared library; concurrent processes may build it twice, and either is whole."""
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    source = Path(__file__).with_suffix(".c")
    made_of = [source.read_text(), *compiler, *flags, _run(*compiler, "--version"), _processor()]
    key = hashlib.sha256("\0".join(made_of).encode()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cf_lightning"
    library = cache / f"kernel-{key[:16]}.so"
    if not library.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            built = Path(folder) / library.name
            _run(*compiler, *flags, str(source), "-o", str(built), "-lm")
            built.replace(library)
    return library


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _processor() -> str:
    """What ``-march=native`` looks at."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor()
    first = cpuinfo.read_text().split("\n\n")[0].splitlines()
    return "\n".join(line for line in first if line.startswith(("model name", "flags")))


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Tell ctypes the signatures of ``kernel.c``; arrays of other types or layouts are then refused."""

    def array(dtype: type[np.generic]) -> type:
        return np.ctypeslib.ndpointer(dtype, flags="C_CONTIGUOUS")

    size, floats, doubles = ctypes.c_int64, array(np.float32), array(np.float64)
    library.precision.restype = ctypes.c_char_p
    library.num_halves.argtypes, library.num_halves.restype = [size], size
    library.num_cells.argtypes, library.num_cells.restype = [size, size], size
    library.pack.argtypes = [floats, size, size, floats, floats, doubles]
    outputs = [array(np.int32), floats, floats, floats]
    library.nearest_two.argtypes = [floats, size, size, floats, floats, floats, size, doubles, *outputs]
    library.square.argtypes = [floats, size, size, doubles]
    library.square.restype = None
    number = ctypes.c_double
    library.add.argtypes = [doubles, size, floats, size, array(np.int64), number, number, size, size]
    library.add.restype = None
    return library


def _aligned(length: int) -> np.ndarray:
    """Float32 that begin on a cache line, so that no vector straddles two."""
    buffer = np.empty(length + CACHE_LINE // 4, np.float32)
    start = -buffer.ctypes.data % CACHE_LINE // 4
    return buffer[start : start + length]


def _in_parallel(work: Callable[[int, int], None], length: int, step: int, num_threads: int) -> None:
    """Call ``work(start, stop)`` for slices of ``range(length)``; the compiled code runs without the GIL."""
    slices = [(start, min(start + step, length)) for start in range(0, length, step)]
    if num_threads == 1 or len(slices) == 1:
        for part in slices:
            work(*part)
        return
    for call in [_pool(num_threads).submit(work, *part) for part in slices]:
        call.result()


@functools.cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads)
