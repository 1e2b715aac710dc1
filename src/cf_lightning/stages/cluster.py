"""The clustering stage: from the features of D_cf to a cluster id for every sample."""

import json
import shutil
from pathlib import Path
from typing import ClassVar, Literal

from cf_lightning.clustering.base import Fit
from cf_lightning.clustering.clusterer import Clusterer
from cf_lightning.clustering.watch import watched
from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError
from cf_lightning.rows import describe_rows, read_rows, read_skipped
from cf_lightning.stages.base import Stage


class Cluster(Stage, Clusterer):
    """k-means on the rows of split train; every row then gets the label of its nearest centroid.

    Writes ``labels.npy`` ((N,) int64, -1 for skipped rows), ``distances.npy`` ((N,) float32, squared),
    ``centroids.npy`` ((K, D) float32), ``inertia.csv`` and ``facts.json``. Yan et al. 2020, section 3.

    Attributes: see ``Clusterer``. ``space`` is what the features given to ``run`` already lie in.
    """

    VERSION: ClassVar[int] = 2

    def ranks(self) -> Literal["all", "one"]:
        """As the engine can use them."""
        return self.engine.RANKS

    def check(self, **indexes: Index) -> None:
        """Refuse more clusters than there are training samples, and what the engine refuses of them."""
        data = indexes["data"]
        available = len(data.rows("train"))
        if self.k > available:
            raise ConfigError(
                f"cluster.k={self.k}: {data.origin} has {available} training samples; choose k up to that"
            )
        self.engine.check(available, self.k)

    def disk_bytes(self, **indexes: Index) -> int | None:
        """Labels and distances; the centroids' width is the trunk's and not known here."""
        return 12 * len(indexes["data"])

    def run(self, out: Path, **inputs: Path) -> None:
        """Cluster; an interrupted attempt continues if the engine can, or is repeated."""
        from cf_lightning.clustering.group import process_group

        index = Index.read(inputs["data"])
        fit_folder = out / "fit"
        fit_folder.mkdir(exist_ok=True)
        with process_group(self.runtime) as group, watched(self.runtime, self.engine.num_reports()) as watch:
            assignment = self.cluster(
                read_rows(inputs["features"], "features", index),
                fit_rows=index.rows("train"),
                skipped=read_skipped(inputs["features"]),
                job=Fit(self.runtime.device_kind(), folder=fit_folder, watch=watch),
            )
        if group.rank == 0:
            shutil.rmtree(fit_folder)
            assignment.save(out)
            describe_rows(out, "labels", index, k=self.k)
            (out / "facts.json").write_text(json.dumps(assignment.facts(), indent=2) + "\n")
