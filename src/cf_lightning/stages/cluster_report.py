"""The stage that says what clusters are worth: in numbers, in a table, and in pictures."""

import csv
import itertools
import json
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from cf_lightning.clustering import quality
from cf_lightning.clustering.base import Fit
from cf_lightning.clustering.clusterer import Clusterer
from cf_lightning.clustering.quality import Known, Members
from cf_lightning.clustering.sheets import PLACES, Gallery, Line, Sheets
from cf_lightning.clustering.watch import LiveWatch
from cf_lightning.data.index import Index
from cf_lightning.data.source import Source
from cf_lightning.rows import open_rows, read_rows, read_skipped
from cf_lightning.stages.base import Stage

THEMES = 8  # typical names of a cluster
NEAREST = 5  # images of a cluster that the table names
LINES = 12  # clusters on a sheet


class ClusterReport(Stage):
    """Measure clusters and show them; everything is of split train unless it is named after another split.

    Inputs: ``data``, ``features`` in the clustered space, and ``labels``, the artifact of the cluster stage.

    Writes ``report.json``, ``clusters.parquet`` (a row for each cluster), ``gallery.parquet`` (a row for each
    cluster with pictures, the largest first: its number and, for each of ``PLACES``, a strip of tiles as a
    WebP file or null), ``sizes`` and ``inertia`` (``.svg`` and ``.png``), ``sheet_<page>.jpg`` and
    ``facts.json``. A run's ``report.html`` shows it all.

    A video is shown as a filmstrip, from top to bottom. What is shown is decoded once. A gallery of 1,000
    clusters of 15 photos takes about 7 s of one core where they have 64 pixels, and 0.8 ms more for each
    photo of 500 x 375.

    Attributes:
        data: the images or videos.
        cluster: how the clusters were made, to make them again with other seeds.
        stability: further fits, with the seeds that follow; the adjusted Rand index of every two of them and
            the one that is reported on is measured. They run in one process.
        sheets: which clusters and images are on the contact sheets.
        gallery: which are in the gallery.
    """

    VERSION: ClassVar[int] = 2
    RANKS: ClassVar[Literal["all", "one"]] = "one"

    data: Source
    cluster: Clusterer
    stability: int = Field(default=0, ge=0)
    sheets: Sheets = Sheets()
    gallery: Gallery = Gallery()

    def run(self, out: Path, **inputs: Path) -> None:
        """Measure, draw, write; an interrupted attempt is repeated."""
        from cf_lightning.clustering.figures import inertia_figure, sizes_figure
        from cf_lightning.report.curves import save

        index = Index.read(inputs["data"])
        labels = read_rows(inputs["labels"], "labels", index)
        squared = open_rows(inputs["labels"] / "distances.npy")
        centroids = open_rows(inputs["labels"] / "centroids.npy")
        every = {
            split: Members.of(labels, squared, index.rows(split), len(centroids)) for split in index.summary()
        }
        splits = {split: members for split, members in every.items() if len(members.rows)}
        train = splits["train"]
        found = {column: Known.of(index, column, train.rows) for column in ("labels", "tags")}
        known = {column: names for column, names in found.items() if names}

        report = self._measure(labels, splits, known)
        if self.stability:
            report["stability"] = self._stability(index, labels, inputs["features"])
        table = self._table(index, labels, centroids, splits, known)
        lines, gallery = self._pictures(index, train, table)
        pq.write_table(table, out / "clusters.parquet")
        pq.write_table(gallery, out / "gallery.parquet", compression="none")
        (out / "report.json").write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
        save(sizes_figure(train.sizes), out / "sizes")
        save(inertia_figure(_curve(inputs["labels"] / "inertia.csv")), out / "inertia")
        for page in range(0, len(lines), LINES):
            sheet = self.sheets.sheet(lines[page : page + LINES])
            sheet.save(out / f"sheet_{page // LINES + 1}.jpg", quality=92)
        (out / "facts.json").write_text(json.dumps(_facts(report), indent=2) + "\n")
        if self.runtime.logger:
            pictures = {file.stem: file for file in sorted(out.iterdir()) if file.suffix in (".png", ".jpg")}
            self.runtime.logger.show(report, {"clusters": _rows(table, lines)}, pictures)

    def _measure(
        self, labels: np.ndarray, splits: dict[str, Members], known: dict[str, Known]
    ) -> dict[str, Any]:
        """The numbers of ``report.json``, those of other seeds left out."""
        train = splits["train"]
        others = {name: members for name, members in splits.items() if name != "train"}
        k = len(train.sizes)
        return {
            "k": k,
            "frames": self.data.FRAMES,
            "engine": type(self.cluster.engine).__name__,
            "seed": self.cluster.seed,
            "sizes": quality.size_facts(train.sizes),
            "train": quality.spread(train),
            **{name: quality.held_out(members, train) for name, members in others.items()},
            "agreement": {column: quality.agreement(names, labels, k) for column, names in known.items()},
        }

    def _stability(self, index: Index, labels: np.ndarray, features: Path) -> dict[str, Any]:
        """Fit again with other seeds; the labels of split train are compared, two by two."""
        from sklearn.metrics import adjusted_rand_score

        from cf_lightning.clustering.group import process_group

        rows, skipped = read_rows(features, "features", index), read_skipped(features)
        train = np.setdiff1d(index.rows("train"), skipped)
        seeds = [self.cluster.seed + further for further in range(1, self.stability + 1)]
        fits = [labels[train]]
        with process_group(self.runtime):
            for seed in seeds:
                with closing(LiveWatch(self.cluster.engine.num_reports(), [])) as watch:
                    job = Fit(self.runtime.device_kind(), watch=watch)
                    again = self.cluster.model_copy(update={"seed": seed}).cluster(rows, train, skipped, job)
                fits.append(again.labels[train])
        ari = [float(adjusted_rand_score(one, two)) for one, two in itertools.combinations(fits, 2)]
        return {"seeds": seeds, "ari": float(np.mean(ari)), "ari_of_pairs": ari}

    def _table(
        self,
        index: Index,
        labels: np.ndarray,
        centroids: np.ndarray,
        splits: dict[str, Members],
        known: dict[str, Known],
    ) -> pa.Table:
        """One row for each cluster."""
        train, k = splits["train"], len(centroids)
        other, distance = quality.nearest_centroids(np.ascontiguousarray(centroids))
        columns: dict[str, Any] = {
            "cluster": np.arange(k),
            **{split: members.sizes for split, members in splits.items()},
            "inertia": train.inertia(),
            **{f"radius_{percent}": train.radius(percent / 100) for percent in (50, 90, 100)},
            "nearest_cluster": other,
            "nearest_distance": distance,
        }
        for column, names in known.items():
            columns[f"top_{column}"] = quality.themes(names, labels, train.sizes, THEMES)
        if "labels" in known:
            columns["majority"], columns["purity"] = quality.majority(known["labels"], labels, k)
        nearest = [train.cluster(number)[:NEAREST] for number in range(k)]
        keys = index.table["key"].combine_chunks().take(pa.array(np.concatenate(nearest)))
        bounds = np.cumsum([0, *map(len, nearest)])
        columns["nearest_images"] = pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), keys)
        return pa.table(columns)

    def _pictures(self, index: Index, train: Members, table: pa.Table) -> tuple[list[Line], pa.Table]:
        """Decode the images to show, cluster by cluster: the lines of the sheets and the gallery's table."""
        seed = self.cluster.seed
        on_sheets, in_gallery = (one.choose(train.sizes, seed) for one in (self.sheets, self.gallery))
        lines, strips = [], []
        for cluster in np.argsort(-train.sizes, kind="stable").tolist():
            load = cache(lambda row: self.data.pictures(index, row))  # of one cluster at a time
            if cluster in in_gallery:
                tiles = self.gallery.tiles(train, cluster, seed, load)
                encoded = {place: self.gallery.strip(some) for place, some in tiles.items()}
                strips.append({"cluster": cluster, **encoded})
            if cluster in on_sheets:
                tiles = self.sheets.tiles(train, cluster, seed, load)
                pictures = {place: self.sheets.montage(some) for place, some in tiles.items()}
                size, themes = int(train.sizes[cluster]), _themes(table, cluster)
                lines.append(Line(cluster, on_sheets[cluster], size, themes, pictures))
        schema = pa.schema([("cluster", pa.int64()), *((place, pa.binary()) for place in PLACES)])
        return lines, pa.Table.from_pylist(strips, schema)


def _themes(table: pa.Table, cluster: int) -> list[str]:
    """The cluster's typical tags; labels where there are no tags."""
    column = next((name for name in ("top_tags", "top_labels") if name in table.column_names), None)
    return [theme["name"] for theme in table[column][cluster].as_py()] if column else []


def _curve(path: Path) -> list[float]:
    with open(path, newline="") as file:
        return [float(line["inertia"]) for line in csv.DictReader(file)]


def _facts(report: dict[str, Any]) -> dict[str, Any]:
    """What the terminal says."""
    sizes, agreement = report["sizes"], report["agreement"]
    facts = {f"nmi_{column}": found["nmi"] for column, found in agreement.items()}
    if "stability" in report:
        facts["ari"] = report["stability"]["ari"]
    return {**facts, "largest_share": sizes["largest_share"], "empty": sizes["empty"]}


def _rows(table: pa.Table, lines: list[Line]) -> list[dict[str, Any]]:
    """The table with names in plain text and, where a cluster is shown, its images; the largest first."""
    shown = {line.cluster: line.pictures for line in lines}
    rows = []
    for row in table.sort_by([("train", "descending")]).to_pylist():
        for column in ("top_labels", "top_tags"):
            if column in row:
                row[column] = ", ".join(f"{t['name']} {t['count']} (x{t['lift']:.1f})" for t in row[column])
        row["nearest_images"] = ", ".join(row["nearest_images"])
        rows.append(row | dict.fromkeys(PLACES) | shown.get(row["cluster"], {}))
    return rows
