"""The stage that chooses a cluster-balanced subset of the data and writes it as a manifest."""

import json
import shlex
from bisect import bisect_right
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from cf_lightning.clustering.quality import size_facts
from cf_lightning.data.index import Index
from cf_lightning.data.source import Source
from cf_lightning.data.video_source import split_key
from cf_lightning.errors import ConfigError, DataError
from cf_lightning.rows import open_rows, read_rows
from cf_lightning.stages.base import Stage

MANIFEST = "manifest.parquet"


class Curate(Stage):
    """As many training samples as ``size`` says, as evenly of all clusters as these can give.

    Vo et al. 2024, "Automatic data curation for self-supervised learning", section 3.3: a cluster gives
    min(its size, level), the highest level that fits, and within a cluster samples are drawn at random or
    those near the centroid are taken. Not followed are the hierarchy of clusterings, for there is one level
    here, and the resampling inside k-means. What the level leaves over is one sample more of clusters that
    are drawn by the seed. Of one clustering and seed, a smaller subset is part of every larger one.

    Rows of val and test are not curated: all of them stay, in their splits, so that a run on the subset is
    validated on the same images. Training samples that could not be decoded are never chosen.

    Inputs: ``data`` and ``labels``, the artifact of the cluster stage.

    Writes ``manifest.parquet`` (``path``, ``split``, and the lists ``label`` and ``tags``: names with
    spaces stay whole; ``start`` and ``end`` where samples are parts of videos), which ``data=manifest`` or
    ``data=video_manifest`` reads, and ``facts.json``: how many samples, ``level``,
    ``exhausted`` (clusters that gave all they have), and the evenness of the clusters' sizes before and
    after, which is their entropy over log(K).

    Attributes:
        size: of the subset, in training samples.
        order: which samples of a cluster come first: random ones, or those nearest to its centroid.
        seed: of all that is drawn.
    """

    RANKS: ClassVar[Literal["all", "one"]] = "one"

    size: int = Field(ge=1)
    order: Literal["random", "centroid"] = "random"
    seed: int = Field(default=0, ge=0)

    def check(self, **indexes: Index) -> None:
        """There are as many training samples, and each sample is a file that a manifest can name."""
        data = indexes["data"]
        available = len(data.rows("train"))
        if self.size > available:
            raise ConfigError(
                f"curate.size={self.size}: {data.origin} has {available} training samples; "
                f"choose a size up to that"
            )
        if data.table["size"].null_count:
            raise ConfigError(
                f"curate: {data.key(0)} of {data.origin} is no file that a manifest could name; "
                f"curate data=folder, data=manifest or data=shards, or leave curate out"
            )

    def disk_bytes(self, **indexes: Index) -> int | None:
        """At most what the whole index takes."""
        return int(indexes["data"].table.nbytes)

    def run(self, out: Path, **inputs: Path) -> None:
        """Choose and write; an interrupted attempt is repeated."""
        index = Index.read(inputs["data"])
        labels = read_rows(inputs["labels"], "labels", index)
        k = json.loads((inputs["labels"] / "labels.json").read_text())["k"]
        train = index.rows("train")
        train = train[labels[train] >= 0]
        if self.size > len(train):
            raise DataError(
                f"curate.size={self.size}: {len(train)} training samples could be decoded; "
                f"choose a size up to that"
            )
        sizes = np.bincount(labels[train], minlength=k)
        rng = np.random.default_rng(self.seed)
        level, quotas = quota(sizes, self.size, rng)
        if self.order == "random":
            first = rng.permutation(train)
        else:
            first = train[np.argsort(open_rows(inputs["labels"] / "distances.npy")[train], kind="stable")]
        held_out = index.rows("val", "test")
        kept = np.concatenate([held_out, first_of_each(first, labels[first], quotas)])
        pq.write_table(_manifest(index.table.take(pa.array(np.sort(kept)))), out / MANIFEST)
        facts = {
            "train": self.size,
            "evenness_before": size_facts(sizes)["entropy"],
            "evenness_after": size_facts(quotas)["entropy"],
            "level": level,
            "exhausted": int((quotas[sizes > 0] == sizes[sizes > 0]).sum()),
            "held_out": len(held_out),
        }
        (out / "facts.json").write_text(json.dumps(facts, indent=2) + "\n")


def _manifest(table: pa.Table) -> pa.Table:
    """The rows of an index as the manifest that lists the same samples."""
    paths, starts, ends = zip(*map(split_key, table["key"].to_pylist()), strict=True)
    columns = {"path": paths, "split": table["split"], "label": table["labels"], "tags": table["tags"]}
    if any(starts) or any(ends):
        columns |= {"start": starts, "end": ends}
    return pa.table(columns)


def quota(sizes: np.ndarray, total: int, rng: np.random.Generator) -> tuple[int, np.ndarray]:
    """How many samples each cluster gives, as evenly as can be.

    Args:
        sizes: (K,) int64.
        total: of all clusters together, at most their sum.
        rng: draws the clusters above the level that give one more.

    Returns:
        The level, and (K,) int64 numbers whose sum is ``total``.
    """
    drawn = rng.permutation(len(sizes))
    level = bisect_right(range(sizes.max() + 1), total, key=lambda most: np.minimum(sizes, most).sum()) - 1
    quotas = np.minimum(sizes, level)
    more = drawn[sizes[drawn] > level]
    quotas[more[: total - quotas.sum()]] += 1
    return level, quotas


def first_of_each(rows: np.ndarray, labels: np.ndarray, quotas: np.ndarray) -> np.ndarray:
    """The first ``quotas[c]`` rows of every cluster c.

    Args:
        rows: (n,) int64, those to be taken first in front.
        labels: (n,) int64, their clusters.
        quotas: (K,) int64, none above its cluster's number of rows.

    Returns:
        (sum of the quotas,) int64, by cluster.
    """
    by_cluster = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels, minlength=len(quotas))
    place = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.asarray(rows[by_cluster[place < np.repeat(quotas, sizes)]])


def usage(data: Source, artifact: Path) -> str:
    """What a command line says to run on the curated data; the manifest names every split itself.

    Args:
        data: that was curated.
        artifact: the stage's folder.
    """
    kind = "manifest" if data.GIVES == "images" else "video_manifest"
    places = [f"data.root={data.root}", f"data.manifest={artifact / MANIFEST}"]
    return shlex.join([f"data={kind}", *places, "data.holdout=0"])
