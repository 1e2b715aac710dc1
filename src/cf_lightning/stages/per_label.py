"""The clustering stage that never mixes labels: k-means inside each of them."""

import json
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from cf_lightning.clustering.assignment import Assignment
from cf_lightning.clustering.base import Fit
from cf_lightning.clustering.clusterer import Clusterer
from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError
from cf_lightning.rows import describe_rows, read_rows, read_skipped
from cf_lightning.stages.base import Stage
from cf_lightning.stages.prototypes import check_labels
from cf_lightning.tasks.base import Targets, Task


class PerLabel(Stage, Clusterer):
    """Each label's samples in clusters of their own, k in all (a comparison of Yan et al. 2020).

    A label has clusters in proportion to its training samples, at least one. A sample of several tags
    belongs to the rarest of them; one without label gets -1 and is not trained on. Files as the cluster
    stage's, with the clusters of a label side by side in the order of the labels.

    Attributes: see ``Clusterer``, and
        task: gives the labels.
    """

    RANKS: ClassVar[Literal["all", "one"]] = "one"

    task: Task

    def check(self, **indexes: Index) -> None:
        """There are labels, and k is neither below their number nor above that of the labelled samples."""
        data = indexes["data"]
        check_labels(self.task, data, "per_label")
        train = data.rows("train")
        sizes = np.bincount(one_label(self.task.targets(data), train)[train] + 1)[1:]
        num_labels, num_samples = int((sizes > 0).sum()), int(sizes.sum())
        if not num_labels <= self.k <= num_samples:
            raise ConfigError(
                f"contestant=per_label, cluster.k={self.k}: {num_labels} labels on {num_samples} training "
                f"samples; choose k from {num_labels} to {num_samples}, or leave per_label out"
            )

    def run(self, out: Path, **inputs: Path) -> None:
        """Cluster label after label; an interrupted attempt is repeated."""
        index = Index.read(inputs["data"])
        features, skipped = read_rows(inputs["features"], "features", index), read_skipped(inputs["features"])
        train = np.setdiff1d(index.rows("train"), skipped)
        own = one_label(self.task.targets(index), train)
        own[skipped] = -1
        quotas = quota(np.bincount(own[train] + 1)[1:], self.k)
        labels, distances = np.full(len(index), -1, np.int64), np.full(len(index), np.nan, np.float32)
        centroids: list[np.ndarray] = []
        for label, number in enumerate(quotas.tolist()):
            rows = np.flatnonzero(own == label)
            if not number:
                continue
            part = self._within(np.asarray(features[rows]), np.flatnonzero(np.isin(rows, train)), number)
            labels[rows] = part.labels + sum(map(len, centroids))
            distances[rows] = part.distances
            centroids.append(part.centroids)
        available = train[own[train] >= 0]
        assignment = Assignment(np.concatenate(centroids), labels, distances, [], available, available)
        assignment.save(out)
        describe_rows(out, "labels", index, k=len(assignment.centroids))
        facts = assignment.facts() | {"labels": int((quotas > 0).sum())}
        (out / "facts.json").write_text(json.dumps(facts, indent=2) + "\n")

    def _within(self, features: np.ndarray, fit_rows: np.ndarray, k: int) -> Assignment:
        """The clusters of one label's samples; fewer than k where fewer samples differ."""
        different = len(np.unique(features[fit_rows], axis=0))
        clusterer = self.model_copy(update={"k": min(k, different)})
        nobody = np.empty(0, dtype=np.int64)
        return clusterer.cluster(features, fit_rows, nobody, Fit(self.runtime.device_kind()))


def one_label(targets: Targets, rows: np.ndarray) -> np.ndarray:
    """(N,) int64: the class of each sample, of several the one that is rarest among ``rows``; -1 is none."""
    values = targets.values.reshape(len(targets.values), -1)
    counts = np.bincount(values[rows][values[rows] >= 0], minlength=len(targets.names))
    rarity = np.where(values >= 0, counts[values], np.iinfo(np.int64).max)
    return np.asarray(values[np.arange(len(values)), rarity.argmin(axis=1)])


def quota(sizes: np.ndarray, k: int) -> np.ndarray:
    """(L,) int64: k clusters for labels of these sizes, in proportion, at least one where there is a sample.

    The largest remainder decides what proportion leaves open; no label has more clusters than samples.
    """
    quotas = (sizes > 0).astype(np.int64)
    while quotas.sum() < k:
        due = np.where(quotas < sizes, sizes * (k / sizes.sum()) - quotas, -np.inf)
        whole = np.floor(np.clip(due, 0, None)).astype(np.int64)
        if 0 < whole.sum() <= k - quotas.sum():
            quotas += np.minimum(whole, sizes - quotas)
        else:
            quotas[np.argmax(due)] += 1
    return quotas
