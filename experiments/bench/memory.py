"""Anonymous memory of a stage's process, watched from outside: extraction, and clustering.

Called with a stage and two folders, this file is that process: it runs the stage on the first folder to
have everything imported and warm, says so, and runs it on the second.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from images import make_images
from measuring import Bound, Row

from cf_lightning.clustering.faiss import FaissKMeans
from cf_lightning.data.containers import File, sample_table
from cf_lightning.data.folder import FolderImages
from cf_lightning.data.index import Index
from cf_lightning.data.views import View
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.rows import describe_rows
from cf_lightning.runtime import Runtime
from cf_lightning.stages.cluster import Cluster
from cf_lightning.stages.extract import Extract

MIB = 2**20
WARM = 128
IMAGES, SIDE, WIDTH = 1000, 32, 64
VECTORS, DIM = 60_000, 2048


def rows(folder: Path) -> Iterator[Row]:
    yield extraction(folder)
    yield clustering(folder)


def extraction(folder: Path) -> Row:
    few, many = IMAGES, 8 * IMAGES
    for number in (WARM, few, many):
        source = make_images(folder / f"images_{number}", number, file_side=SIDE, side=SIDE)
        (folder / f"extract_{number}").mkdir()
        source.index().write(folder / f"extract_{number}")
    of_few, of_many = (
        growth("extract", folder / f"extract_{WARM}", folder / f"extract_{number}") / MIB
        for number in (few, many)
    )
    more = of_many - of_few
    features = (many - few) * 8 * WIDTH * 4 / MIB
    sides = f"{of_many:.1f} against {of_few:.1f} MiB; the features would add {features:.1f} MiB"
    what = f"Extraction of {many} images: memory beyond that of {few}"
    return Row(what, f"{more:.1f} MiB", sides, more, Bound("<=", 4, " MiB"))


def clustering(folder: Path) -> Row:
    for number in (WARM, VECTORS):
        _write_features(folder / f"cluster_{number}", number)
    peak = growth("cluster", folder / f"cluster_{WARM}", folder / f"cluster_{VECTORS}") / MIB
    matrix = VECTORS * DIM * 4 / MIB
    what = f"Clustering of {VECTORS} x {DIM}: peak memory / the float32 matrix"
    share = peak / matrix
    return Row(what, f"{share:.2f}", f"{peak:.0f} against {matrix:.0f} MiB", share, Bound("<=", 1.2))


def _write_features(folder: Path, number: int) -> None:
    """An artifact as extraction leaves it, with random float16 features."""
    folder.mkdir()
    files = [File(f"{i:06d}.jpg", None) for i in range(number)]
    index = Index(sample_table(files, ["train"] * number, [[]] * number, [[]] * number), "generated")
    index.write(folder)
    features = np.lib.format.open_memmap(folder / "features.npy", "w+", np.float16, (number, DIM))
    rng = np.random.default_rng(0)
    for start in range(0, number, 10_000):
        block = features[start : start + 10_000]
        block[:] = rng.standard_normal(block.shape, np.float32)
    features.flush()
    describe_rows(folder, "features", index)
    np.save(folder / "skipped.npy", np.empty(0, np.int64))


def growth(stage: str, warm: Path, measured: Path) -> int:
    """Bytes of anonymous memory at the peak of the measured run, beyond what the warm process has."""
    command = [sys.executable, __file__, stage, str(warm), str(measured)]
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


def run_stage(name: str, folder: Path) -> None:
    out = Path(tempfile.mkdtemp(dir=folder))
    machine = Runtime(accelerator="cpu", devices=1, progress=False)
    if name == "extract":
        root = folder.parent / folder.name.replace("extract", "images")
        source = FolderImages(root=str(root), view=View(resize=SIDE, crop=SIDE), holdout=0.0)
        model = TinyTrunk(width=WIDTH)
        Extract(data=source, model=model, dtype="float32", batch_size=8, runtime=machine).run(
            out, data=folder
        )
    else:
        stage = Cluster(k=64, engine=FaissKMeans(iterations=5), runtime=machine)
        stage.run(out, data=folder, features=folder)


if __name__ == "__main__":
    run_stage(sys.argv[1], Path(sys.argv[2]))
    print("warm", flush=True)
    run_stage(sys.argv[1], Path(sys.argv[3]))
