"""The stage between extraction and clustering: the features as k-means sees them."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from cf_lightning.clustering.space import FeatureSpace
from cf_lightning.data.index import Index
from cf_lightning.rows import describe_rows, read_rows, read_skipped
from cf_lightning.stages.base import Stage


class Space(Stage, FeatureSpace):
    """Write the features of every row in the clustered space; every k and every engine share them.

    Writes ``features.npy`` ((N, d) float32), ``skipped.npy`` and, with a projection, ``mean.npy`` and
    ``components.npy``. A projection is fitted on the rows of split train.

    Attributes: see ``FeatureSpace``.
    """

    VERSION: ClassVar[int] = 1
    RANKS: ClassVar[Literal["all", "one"]] = "one"

    def disk_bytes(self, **indexes: Index) -> int | None:
        """N rows of the projection; without one the width is the trunk's and not known here."""
        return 4 * self.pca * len(indexes["data"]) if self.pca else None

    def run(self, out: Path, **inputs: Path) -> None:
        """Transform; an interrupted attempt is repeated."""
        index = Index.read(inputs["data"])
        features = read_rows(inputs["features"], "features", index)
        skipped = read_skipped(inputs["features"])
        present = np.setdiff1d(np.arange(len(index)), skipped)
        fit_rows = np.setdiff1d(index.rows("train"), skipped)
        self.write(features, fit_rows, present, out / "features.npy").save(out)
        np.save(out / "skipped.npy", skipped)
        describe_rows(out, "features", index, **self.model_dump(include={"pca", "whiten", "normalize"}))
