"""Weakly supervised pre-training on hashtags (Mahajan et al. 2018, section 2)."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from cf_lightning.data.index import Index
from cf_lightning.data.views import View
from cf_lightning.errors import DataError
from cf_lightning.tasks.base import Targets, Task


class Hashtags(Task):
    """Each image's k known tags share a target of 1/k; images of rare tags are drawn more often.

    The vocabulary is counted over the training rows. An image's weight is the largest over its tags
    of ``count ** -power``: 0.5 is the square-root resampling of Mahajan et al., 0 none, 1 uniform.
    Images without a known tag are not trained on; the stage reports how many they are.

    Attributes:
        min_count: a tag on fewer training images is unknown.
        power: of the resampling.
    """

    OF_LABELS: ClassVar[bool] = True

    min_count: int = Field(default=1, ge=1)
    power: float = Field(default=0.5, ge=0, le=1)

    def check(self, data: Index, view: View) -> None:
        """At least two tags must reach ``min_count``."""
        names, _ = self._vocabulary(data)
        if len(names) < 2:
            raise DataError(
                f"root={data.origin}: {len(names)} tags are on at least pretrain.task.min_count="
                f"{self.min_count} training samples; hashtag pre-training needs 2 (column data.columns.tags)"
            )

    def targets(self, data: Index, **inputs: Path) -> Targets:
        """(N, T) int64 numbers of each image's known tags, in alphabetical order of the tags."""
        names, counts = self._vocabulary(data)
        row, tag = _pairs(data)
        number = pa.compute.index_in(tag, pa.array(names, pa.string())).fill_null(-1).to_numpy()
        row, number = row[number >= 0], number[number >= 0]
        pairs = np.unique(np.stack([row, number], axis=1), axis=0)  # a tag written twice counts once
        row, number = pairs[:, 0], pairs[:, 1]
        per_row = np.bincount(row, minlength=len(data))
        column = np.arange(len(row)) - np.repeat(np.cumsum(per_row) - per_row, per_row)
        values = np.full((len(data), max(1, per_row.max(initial=0))), -1, dtype=np.int64)
        values[row, column] = number
        weights = np.zeros(len(data))
        np.maximum.at(weights, row, counts[number].astype(np.float64) ** -self.power)
        return Targets(values, names, weights)

    def _vocabulary(self, data: Index) -> tuple[list[str], np.ndarray]:
        """The known tags in alphabetical order, and on how many training images each is."""
        row, tag = _pairs(data)
        is_train = np.zeros(len(data), dtype=bool)
        is_train[data.rows("train")] = True
        pairs = pa.table({"row": row, "tag": tag}).filter(pa.array(is_train[row]))
        counts = pairs.group_by("tag").aggregate([("row", "count_distinct")])
        counts = counts.filter(pa.compute.greater_equal(counts["row_count_distinct"], self.min_count))
        counts = counts.sort_by("tag")
        return counts["tag"].to_pylist(), counts["row_count_distinct"].to_numpy()


def _pairs(data: Index) -> tuple[np.ndarray, pa.Array]:
    """One entry for each tag of each image: (P,) int64 rows and the tags as text."""
    tags = data.table["tags"].combine_chunks()
    return np.asarray(pa.compute.list_parent_indices(tags).to_numpy()), pa.compute.list_flatten(tags)
