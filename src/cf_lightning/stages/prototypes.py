"""The stage that relabels each sample by the nearest class mean."""

import json
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from cf_lightning.clustering.assignment import Assignment
from cf_lightning.data.index import Index
from cf_lightning.data.views import View
from cf_lightning.errors import ConfigError
from cf_lightning.rows import describe_rows, read_rows, read_skipped
from cf_lightning.stages.base import Stage
from cf_lightning.tasks.base import Task


class Prototypes(Stage):
    """Class means in place of centroids; else as the cluster stage, with the classes as clusters.

    The prototype of a class is the mean feature of its training samples (of those that have the tag), in the
    clustered space; every sample gets the class whose prototype is nearest (Mensink et al. 2013, nearest
    class mean). A comparison of Yan et al. 2020.

    Writes ``labels.npy`` ((N,) int64), ``distances.npy``, ``centroids.npy`` ((classes, D) float32) and
    ``facts.json``; ``kept_label`` there is the share of training samples whose label stays.

    Attributes:
        task: gives the labels.
    """

    RANKS: ClassVar[Literal["all", "one"]] = "one"

    task: Task

    def check(self, **indexes: Index) -> None:
        """There are labels."""
        check_labels(self.task, indexes["data"], "prototypes")

    def run(self, out: Path, **inputs: Path) -> None:
        """Average, assign; an interrupted attempt is repeated."""
        from cf_lightning.clustering.nearest import assign
        from cf_lightning.clustering.rows import Rows

        index = Index.read(inputs["data"])
        features, skipped = read_rows(inputs["features"], "features", index), read_skipped(inputs["features"])
        targets = self.task.targets(index)
        train = np.setdiff1d(index.rows("train"), skipped)
        centroids = class_means(features, targets.values, train, len(targets.names))
        rows = Rows(features, np.setdiff1d(np.arange(len(index)), skipped))
        labels, distances = assign(rows, centroids, self.runtime.device_kind())
        assignment = Assignment(centroids, labels, distances, [], train, train)
        assignment.save(out)
        describe_rows(out, "labels", index, k=len(centroids))
        own = targets.values.reshape(len(index), -1)
        kept = (own == labels[:, None]).any(axis=1)[train]
        facts = assignment.facts() | {"kept_label": float(kept.mean())}
        (out / "facts.json").write_text(json.dumps(facts, indent=2) + "\n")


def class_means(features: np.ndarray, values: np.ndarray, rows: np.ndarray, num_classes: int) -> np.ndarray:
    """(num_classes, D) float32: the mean feature of the rows of each class; zeros where there is none.

    Args:
        features: (N, D) float32, usually a memmap.
        values: (N,) or (N, T) int64 classes of each sample, -1 is none.
        rows: (n,) int64, ascending: those that are averaged.
        num_classes: K.
    """
    from scipy import sparse

    from cf_lightning.clustering.rows import Rows

    classes = values.reshape(len(values), -1)
    sums, counts = np.zeros((num_classes, features.shape[1])), np.zeros(num_classes)
    some = Rows(features, rows)
    for start, block in some.blocks():
        own = classes[rows[start : start + len(block)]]
        sample, place = np.nonzero(own >= 0)
        number = own[sample, place]
        member = sparse.csr_matrix((np.ones(len(sample)), (number, sample)), (num_classes, len(block)))
        sums += member @ block.astype(np.float64)
        counts += np.bincount(number, minlength=num_classes)
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)


def check_labels(task: Task, data: Index, name: str) -> None:
    """Raise ``UserError`` where the task has no labels of the data, or the data has none for it."""
    if not task.OF_LABELS:
        raise ConfigError(
            f"contestant={name}: needs labels or tags of the data, and {type(task).__name__} has none; "
            f"leave it out, or set contestant.{name}.stage.task"
        )
    task.check(data, View())
