"""Anonymous memory of a fit by ``LloydKMeans``, watched from outside."""

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from measuring import Bound, growth, middle
from problem import synthetic
from table import Row

from cf_lightning.clustering.rows import Rows

MIB = 2**20
ONE_FIT = str(Path(__file__).with_name("one_fit.py"))
SMALL, LARGE, DIM, K = 2000, 60_000, 2048, 1000
LEAN = Bound("<=", 1.2)


def rows(folder: Path) -> Iterator[Row]:
    files = [folder / "small.npy", folder / "large.npy"]
    for path, num_rows in zip(files, (SMALL, LARGE), strict=True):
        synthetic("feat", path, num_rows, DIM, K)
    peaks = [growth(sys.executable, ONE_FIT, *map(str, files), str(K)) / MIB for _ in range(3)]
    least = (4 * K * DIM + 2 * Rows.BLOCK_BYTES) / MIB
    shares = [peak / least for peak in peaks]
    what = f"peak memory / (centroids + two blocks of rows) (feat, {LARGE:,} x {DIM}, k={K:,})"
    sides = f"{median(peaks):.0f} against {least:.0f} MiB; the rows have {4 * LARGE * DIM / MIB:.0f} MiB"
    yield Row(what, LEAN, LEAN, median(shares), middle(shares), sides)
