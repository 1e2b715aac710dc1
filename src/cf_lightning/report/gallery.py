"""A clustering on a page: its facts, its figures, and the gallery of its clusters."""

import base64
import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cf_lightning.clustering.sheets import PLACES
from cf_lightning.store import verified

BYTES = 24 * 2**20  # of all galleries of one page: a page has at most 30 MB
NAMES, LETTERS = 6, 60  # typical names on a card, and the letters of each


def clustering(report: Path, labels: Path, number_of_bytes: int = BYTES) -> dict[str, Any]:
    """What the page shows of one clustering.

    Args:
        report: the artifact of the ``cluster_report`` stage.
        labels: the artifact of the ``cluster`` stage that it is on.
        number_of_bytes: that its gallery may take on the page.

    Raises:
        StoreError: a file is not there or was changed.
    """
    manifest = verified(report, ("report.json", "clusters.parquet", "gallery.parquet"))
    verified(labels, ("inertia.csv",))
    facts = json.loads((report / "report.json").read_text())
    table = pq.read_table(report / "clusters.parquet").sort_by(
        [("train", "descending"), ("cluster", "ascending")]
    )
    texts = gallery_texts(table)
    strips = _strips(
        report / "gallery.parquet", number_of_bytes - len(json.dumps(texts, ensure_ascii=False).encode())
    )
    return {
        "report": facts,
        "figures": _figures(facts["k"], table["train"].to_numpy(), labels / "inertia.csv"),
        "gallery": {
            **texts,
            "columns": manifest["config"]["gallery"]["columns"],
            "frames": facts.get("frames", 1),
            "strips": [strips.get(number) for number in texts["cluster"]],
        },
        "pictured": len(strips),
    }


def gallery_texts(table: pa.Table) -> dict[str, Any]:
    """All that a card says in words, as columns; row by row in the order of the table.

    ``share`` is the purity where the samples have labels, else the share of samples with the top tag;
    ``names`` are triples of name, count and lift.
    """
    column = next((name for name in ("top_labels", "top_tags") if name in table.column_names), None)
    themes = table[column].to_pylist() if column else [[]] * len(table)
    sizes = table["train"].to_pylist()
    if "purity" in table.column_names:
        measure, share = "purity", table["purity"].to_pylist()
    else:
        measure = "top tag"
        share = [some[0]["count"] / size if some else None for some, size in zip(themes, sizes, strict=True)]
    return {
        "kind": "label" if column == "top_labels" else "tag",
        "measure": measure,
        "cluster": table["cluster"].to_pylist(),
        "size": sizes,
        "share": [_rounded(value) for value in share],
        "radius": [_rounded(value) for value in table["radius_90"].to_pylist()],
        "names": [
            [[theme["name"][:LETTERS], theme["count"], _rounded(theme["lift"])] for theme in some[:NAMES]]
            for some in themes
        ],
    }


def _strips(file: Path, number_of_bytes: int) -> dict[int, list[str | None]]:
    """The pictures of the largest clusters that there is room for, in base64, in the order of ``PLACES``."""
    strips: dict[int, list[str | None]] = {}
    for row in pq.read_table(file).to_pylist():
        pictures = [row[place] and base64.b64encode(row[place]).decode() for place in PLACES]
        number_of_bytes -= sum(len(picture or "") + 8 for picture in pictures)
        if number_of_bytes < 0:
            break
        strips[row["cluster"]] = pictures
    return strips


def _figures(k: int, sizes: np.ndarray, inertia: Path) -> list[str]:
    """The histogram of sizes and the curve of inertia, as SVG."""
    from cf_lightning.clustering.figures import inertia_figure, sizes_figure
    from cf_lightning.report.curves import inline

    with open(inertia, newline="") as file:
        curve = [float(line["inertia"]) for line in csv.DictReader(file)]
    told = f"{k} clusters, {sizes.min()} to {sizes.max()} samples in each, {sizes.mean():.4g} in the mean."
    fell = f"From {curve[0]:.4g} to {curve[-1]:.4g} in {len(curve)} iterations."
    return [
        inline(sizes_figure(sizes), f"sizes-{k}", "Histogram of cluster sizes", told),
        inline(inertia_figure(curve), f"inertia-{k}", "Inertia of each iteration", fell),
    ]


def _rounded(value: float | None) -> float | None:
    """Four digits; JSON has no NaN."""
    return None if value is None or math.isnan(value) else float(f"{value:.4g}")
