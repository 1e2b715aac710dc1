"""Anonymous memory of the clustering stage, watched from outside.

Called with folders of few features and of many, this file is the process that clusters the first, says that
it is warm, and clusters the second. It imports no more than the stage does, which is most of its time.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from measuring import Bound, Row, growth, ratio

from cf_lightning.clustering.faiss import FaissKMeans
from cf_lightning.data.containers import File, sample_table
from cf_lightning.data.index import Index
from cf_lightning.rows import describe_rows
from cf_lightning.runtime import Runtime
from cf_lightning.stages.cluster import Cluster
from cf_lightning.stages.space import Space

MACHINE = Runtime(accelerator="cpu", devices=1, progress=False)
VECTORS, DIM, MIB = 60_000, 2048, 2**20


def clustering(folder: Path) -> Row:
    folders = [folder / "few_features", folder / "features"]
    for place, number in zip(folders, (1000, VECTORS), strict=True):
        _write_features(place, number)
    peaks = [growth(sys.executable, __file__, *map(str, folders)) / MIB for _ in range(3)]
    what = f"Clustering of {VECTORS} x {DIM}: peak memory / the float32 matrix"
    return ratio(what, peaks, [VECTORS * DIM * 4 / MIB] * len(peaks), Bound("<=", 1.2), "MiB")


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


def cluster(few: str, many: str) -> None:
    stage = Cluster(k=64, engine=FaissKMeans(iterations=5), runtime=MACHINE)
    for folder in map(Path, (few, many)):
        space, out = (Path(tempfile.mkdtemp(dir=folder)) for _ in range(2))
        Space(runtime=MACHINE).run(space, data=folder, features=folder)
        stage.run(out, data=folder, features=space)
        if folder == Path(few):
            print("warm", flush=True)


if __name__ == "__main__":
    cluster(*sys.argv[1:])
