"""Anonymous memory of a fit by ``LloydKMeans``, watched from outside."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from measuring import Bound, middle
from problem import synthetic
from table import Row

from cf_lightning.clustering.rows import Rows

MIB = 2**20
SMALL, LARGE, DIM, K = 2000, 60_000, 2048, 1000
LEAN = Bound("<=", 1.2)


def rows(folder: Path) -> Iterator[Row]:
    files = [folder / "small.npy", folder / "large.npy"]
    for path, num_rows in zip(files, (SMALL, LARGE), strict=True):
        synthetic("feat", path, num_rows, DIM, K)
    peaks = [growth(*map(str, files), str(K)) / MIB for _ in range(3)]
    least = (4 * K * DIM + 2 * Rows.BLOCK_BYTES) / MIB
    shares = [peak / least for peak in peaks]
    what = f"peak memory / (centroids + two blocks of rows) (feat, {LARGE:,} x {DIM}, k={K:,})"
    sides = f"{median(peaks):.0f} against {least:.0f} MiB; the rows have {4 * LARGE * DIM / MIB:.0f} MiB"
    yield Row(what, LEAN, LEAN, median(shares), middle(shares), sides)


def growth(*arguments: str) -> int:
    """Bytes of anonymous memory at the peak of ``one_fit.py``, beyond what it had when it was warm."""
    command = [sys.executable, str(Path(__file__).with_name("one_fit.py")), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline() not in ("warm\n", ""):
            pass
        before = peak = _anonymous(process.pid)
        while process.poll() is None:
            peak = max(peak, _anonymous(process.pid))
            time.sleep(0.002)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return peak - before


def _anonymous(pid: int) -> int:
    """RssAnon in bytes; 0 of a process that has just ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
