"""The stage that tells the student other things of the clusters than which one is nearest."""

import json
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from cf_lightning.clustering.rows import Rows
from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError
from cf_lightning.rows import describe_rows, open_rows, read_rows
from cf_lightning.stages.base import Stage


class Relabel(Stage):
    """Several clusters for every sample, and none that is too small.

    Inputs: ``data``, ``features`` in the clustered space, and ``labels``, the artifact of a cluster stage.

    Writes what that holds: ``labels.npy`` ((N,) int64, or (N, l) with the nearest first; -1 is none),
    ``distances.npy`` (of the same shape, float32, squared, NaN where there is none), ``centroids.npy`` (those
    that are kept, renumbered in their old order) and ``facts.json``, whose samples are those of split train.

    Attributes:
        nearest: l, to how many clusters a sample belongs: its own, then the next nearest. An et al. 2024
            (MLCD, arXiv 2407.17331) take 8 of a million.
        min_size: clusters with fewer training samples are removed.
        small: samples of a removed cluster go to the ``nearest`` that is kept, or to none: ``drop``.
    """

    RANKS: ClassVar[Literal["all", "one"]] = "one"

    nearest: int = Field(default=1, ge=1)
    min_size: int = Field(default=1, ge=1)
    small: Literal["nearest", "drop"] = "nearest"

    @property
    def changes(self) -> bool:
        """Whether the student is told anything else than by the clusters themselves."""
        return self.nearest > 1 or self.min_size > 1

    def check_k(self, k: int) -> None:
        """Refuse more clusters for a sample than there are."""
        if self.nearest > k:
            raise ConfigError(
                f"clusterfit.relabel.nearest={self.nearest}: there are {k} clusters; choose up to that"
            )

    def disk_bytes(self, **indexes: Index) -> int | None:
        """Labels and distances; the centroids' width is the trunk's and not known here."""
        return 12 * self.nearest * len(indexes["data"])

    def run(self, out: Path, **inputs: Path) -> None:
        """Remove clusters, then search; an interrupted attempt is repeated."""
        index = Index.read(inputs["data"])
        old = np.asarray(read_rows(inputs["labels"], "labels", index))
        centroids = open_rows(inputs["labels"] / "centroids.npy")
        train = index.rows("train")
        kept = self._kept(np.bincount(old[train] + 1, minlength=len(centroids) + 1)[1:])
        renumbered = np.full(len(centroids) + 1, -1)  # the last one is what -1 finds
        renumbered[kept] = np.arange(len(kept))
        own = renumbered[old]
        is_removed = (old >= 0) & (own < 0)
        squared = np.where(own >= 0, open_rows(inputs["labels"] / "distances.npy"), np.float32(np.nan))
        is_searched = is_removed & (self.small == "nearest") | (own >= 0) & (self.nearest > 1)
        rows = Rows(read_rows(inputs["features"], "features", index), np.flatnonzero(is_searched))
        labels, distances = self._search(rows, np.asarray(centroids[kept]), own, squared)
        for name, array in (("labels", labels), ("distances", distances), ("centroids", centroids[kept])):
            np.save(out / f"{name}.npy", array)
        describe_rows(out, "labels", index, k=len(kept))
        facts = {
            "k": len(kept),
            "removed_clusters": len(centroids) - len(kept),
            "moved_samples" if self.small == "nearest" else "dropped_samples": int(is_removed[train].sum()),
        }
        (out / "facts.json").write_text(json.dumps(facts, indent=2) + "\n")

    def _kept(self, sizes: np.ndarray) -> np.ndarray:
        """(k,) int64, ascending: the clusters that have, of ``sizes`` (K,), enough training samples.

        Raises:
            ConfigError: fewer are left than two, or than each sample shall belong to.
        """
        self.check_k(len(sizes))
        kept, needed = np.flatnonzero(sizes >= self.min_size), max(2, self.nearest)
        if len(kept) >= needed:
            return kept
        most = int(np.sort(np.append(0, sizes))[-needed])
        choices = [f"min_size up to {most}"] * (most > 0) + [f"nearest up to {len(kept)}"] * (len(kept) > 1)
        raise ConfigError(
            f"clusterfit.relabel.min_size={self.min_size}, nearest={self.nearest}: {len(kept)} of "
            f"{len(sizes)} clusters are that large and {needed} are needed; "
            f"choose {' or '.join(choices) or 'more clusters'}"
        )

    def _search(
        self, rows: Rows, centroids: np.ndarray, own: np.ndarray, squared: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Labels and distances of all samples, (N,) or (N, l): what they have, then what is found.

        Args:
            rows: the samples that are searched.
            centroids: (k, D) float32.
            own: (N,) int64 cluster of each sample, which stays its first; -1 is none.
            squared: (N,) float32 distance to it.
        """
        labels = np.full((len(own), self.nearest), -1)
        distances = np.full(labels.shape, np.nan, np.float32)
        labels[:, 0], distances[:, 0] = own, squared
        if len(rows):
            from cf_lightning.clustering.nearest import NearestCentroid

            device = self.runtime.device_kind()
            search = NearestCentroid(centroids, centroids.mean(axis=0), device)
            for start, block in rows.blocks(device=device):
                some = rows.numbers[start : start + len(block)]
                found = search.several(block, self.nearest)
                labels[some], distances[some] = _own_first(own[some], squared[some], *found)
        return (labels[:, 0], distances[:, 0]) if self.nearest == 1 else (labels, distances)


def _own_first(
    own: np.ndarray, squared: np.ndarray, labels: np.ndarray, distances: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest clusters of b samples, (b, l), behind their own, (b,), if they have one.

    It is the nearest already unless the clusters were made by another rule, such as one for each label.
    """
    is_own = labels == own[:, None]
    is_far = (own >= 0) & ~is_own.any(axis=1)
    labels[is_far, -1], distances[is_far, -1], is_own[is_far, -1] = own[is_far], squared[is_far], True
    order = np.argsort(~is_own, axis=1, kind="stable")
    return np.take_along_axis(labels, order, axis=1), np.take_along_axis(distances, order, axis=1)
