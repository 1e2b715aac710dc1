"""The stage that measures one contestant's features on one target with one protocol."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from cf_lightning.data.index import Index
from cf_lightning.rows import read_rows, read_skipped
from cf_lightning.stages.base import Stage
from cf_lightning.stages.extract import VIEWS
from cf_lightning.transfer.base import Protocol, Score


class Transfer(Stage):
    """From a target's features to ``metrics.json``.

    Inputs: ``features``, an artifact with ``features.npy`` ((N, D) float16 or float32), ``features.json``
    and ``skipped.npy`` ((M,) int64 rows that could not be decoded), and ``views.npy`` where samples have
    several; ``data``, the target's index.

    Outputs: ``metrics.json``, a list of scores as in ``transfer.base.Score`` with protocol and layer;
    ``draws.npy``, (scores, DRAWS) float64, their values on resampled test samples; ``facts.json``, the values
    in percent.

    Attributes:
        protocol: how features are measured.
    """

    RANKS: ClassVar[Literal["all", "one"]] = "one"
    VERSION: ClassVar[int] = 2

    protocol: Protocol

    def check(self, **indexes: Index) -> None:
        """Refuse a target that the protocol cannot measure on."""
        self.protocol.splits(indexes["data"], skipped=np.empty(0, np.int64))

    def run(self, out: Path, **inputs: Path) -> None:
        """Measure; the rows that were left out are counted in the details of each score."""
        index, folder = Index.read(inputs["data"]), inputs["features"]
        skipped = read_skipped(folder)
        train, test = self.protocol.splits(index, skipped)
        by_view = self.protocol.OF_VIEWS and (folder / f"{VIEWS}.npy").exists()
        features = read_rows(folder, VIEWS if by_view else "features", index)
        device = self.runtime.device_kind()
        layers = json.loads((folder / "features.json").read_text())["layers"]
        ends = np.cumsum(list(layers.values()))
        parts = np.split(features, ends[:-1], axis=-1)  # each still mapped from disk
        scores = {
            layer: self.protocol.evaluate(part, train, test, device)
            for layer, part in zip(layers, parts, strict=True)
        }

        wanted = index.rows("train", index.test_split)
        num_skipped = int(np.isin(wanted, skipped).sum())
        counts = {
            "n_train": len(train),
            "view": "centre",
            **({"views": features.shape[1]} if by_view else {}),
            "skipped": num_skipped,
            "unlabelled": len(wanted) - len(train) - len(test) - num_skipped,
        }
        for layer, of_layer in scores.items():
            scores[layer] = [replace(score, details=score.details | counts) for score in of_layer]
        write_scores(out, scores, self.protocol.NAME)


def write_scores(out: Path, scores: dict[str, list[Score]], protocol: str) -> None:
    """Write the scores of each layer: ``metrics.json``, ``draws.npy`` and ``facts.json``."""
    rows = [
        {**asdict(score), "protocol": protocol, "layer": layer}
        for layer, of_layer in scores.items()
        for score in of_layer
    ]
    np.save(out / "draws.npy", np.stack([row.pop("draws") for row in rows]))
    name = "{layer} {metric}" if len(scores) > 1 else "{metric}"
    facts = {name.format_map(row): round(100 * row["value"], 1) for row in rows}
    (out / "metrics.json").write_text(json.dumps(rows, indent=1))
    (out / "facts.json").write_text(json.dumps(facts))
