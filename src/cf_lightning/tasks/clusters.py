"""ClusterFit's own task: which cluster an image belongs to (Yan et al. 2020, section 3)."""

import json
from pathlib import Path

import numpy as np

from cf_lightning.data.index import Index
from cf_lightning.rows import read_rows
from cf_lightning.tasks.base import Targets, Task


class Clusters(Task):
    """Targets are the assignments of a cluster artifact, and so is the width of the head."""

    def targets(self, data: Index, **inputs: Path) -> Targets:
        """(N,) int64 cluster ids; -1 where a sample could not be decoded."""
        values = np.array(read_rows(inputs["labels"], "labels", data))
        k = json.loads((inputs["labels"] / "labels.json").read_text())["k"]
        return Targets(values, [f"cluster {number}" for number in range(k)])
