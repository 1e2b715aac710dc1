"""Anonymous memory of whole processes, watched from outside: extraction, and the clustering stage."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from images import make_images
from measuring import Row, bounded

from cf_lightning.clustering.faiss import FaissKMeans
from cf_lightning.data.containers import File, sample_table
from cf_lightning.data.folder import FolderImages
from cf_lightning.data.index import Index
from cf_lightning.data.views import View
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.rows import describe_rows
from cf_lightning.runtime import Runtime
from cf_lightning.stages.base import Stage
from cf_lightning.stages.cluster import Cluster
from cf_lightning.stages.extract import Extract

MIB = 2**20
SAMPLES, SIDE = 1000, 32
VECTORS, DIM = 60_000, 2048
CPU = Runtime(accelerator="cpu", devices=1, progress=False)


def rows(folder: Path) -> Iterator[Row]:
    for name, number in (("warm", 128), ("once", SAMPLES), ("eightfold", 8 * SAMPLES)):
        source = make_images(folder / "memory" / name / "images", number, SIDE, SIDE)
        source.index().write(folder / "memory" / name)
    once, eightfold = (growth("extract", folder, name) for name in ("once", "eightfold"))
    more = (eightfold - once) / MIB
    yield bounded(
        f"Extraction: memory of {8 * SAMPLES} images beyond that of {SAMPLES}",
        more,
        f"{more:.1f} MiB",
        "<=",
        4,
        f"{eightfold / MIB:.1f} against {once / MIB:.1f} MiB; the features are {7 * SAMPLES * 4 * 512 / MIB:.1f} MiB",
        " MiB",
    )
