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
        scores = self.protocol.evaluate(features, train, test, self.runtime.device_kind())

        wanted = index.rows("train", index.test_split)
        num_skipped = int(np.isin(wanted, skipped).sum())
        counts = {
            "n_train": len(train),
            **({"views": features.shape[1]} if by_view else {}),
            "skipped": num_skipped,
            "unlabelled": len(wanted) - len(train) - len(test) - num_skipped,
        }
        layer = json.loads((folder / "features.json").read_text())["layer"] or "pooled"
        scores = [replace(score, details=score.details | counts) for score in scores]
        write_scores(out, scores, self.protocol.NAME, layer)


def write_scores(out: Path, scores: list[Score], protocol: str, layer: str) -> None:
    """Write ``metrics.json``, ``draws.npy`` and ``facts.json``."""
    rows = [{**asdict(score), "protocol": protocol, "layer": layer} for score in scores]
    np.save(out / "draws.npy", np.stack([row.pop("draws") for row in rows]))
    facts = {score.metric: round(100 * score.value, 1) for score in scores}
    (out / "metrics.json").write_text(json.dumps(rows, indent=1))
    (out / "facts.json").write_text(json.dumps(facts))
