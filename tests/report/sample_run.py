"""A finished run, made up: its folder and its store, with as many clusters as a test wants."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cf_lightning.results import Result, write_results
from cf_lightning.runs import Run, RunStep
from cf_lightning.store import Store

TILE, COLUMNS = 16, 3


def sample_run(
    folder: Path, ks: Sequence[int] = (5,), pictured: int | None = None, noise: int = 0, **changes: Any
) -> Path:
    """Write ``folder/run`` and ``folder/store``.

    Args:
        folder: where.
        ks: a clustering for each; cluster c of it has ``c + 1`` images, and is empty for c = 0.
        pictured: the clusters with pictures, the largest ones; all that are not empty if it is None.
        noise: bytes of each strip; 0 for a true picture, plain in the cluster's ``colour``.
        changes: of ``run.json``; ``tag`` is one that every cluster has.
    """
    tag = changes.pop("tag", "everywhere")
    steps = [step("index", "data"), step("pretrain", "teacher", cached=True, data="index/data")]
    for k in ks:
        steps.append(step("cluster", f"clusters, k={k}", key=f"cluster{k}"))
        report = step("cluster_report", f"report on k={k}", key=f"report{k}", labels=f"cluster/cluster{k}")
        steps.append(report)
    steps.append(step("clusterfit", "student on clusters"))
    told: dict[str, Any] = {
        "status": "done",
        "experiment": "sample",
        "overrides": ["+experiment=sample", "target=[one,two]"],
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 75.0,
        "store": str(folder / "store"),
        "steps": steps,
        "objective": 0.5,
        "environment": {"python": "3.11", "commit": "abc"},
    }
    run = Run(**{**told, **changes})
    run.write(folder / "run")
    write_results(folder / "run", [result(who, k=list(ks)) for who in ("random", "teacher", "student")])
    store = Store(str(folder / "store"))
    for one in run.steps:
        partial = store.partial(one.stage, one.key)
        partial.mkdir(parents=True)
        if one.stage == "cluster_report":
            k = int(one.key.removeprefix("report"))
            clusters(partial, np.arange(k) + (np.arange(k) > 0), tag, pictured, noise)
        store.publish(one.stage, one.key, artifact(partial, one.stage))
    return folder / "run"


def step(stage: str, title: str, cached: bool = False, key: str = "", **inputs: str) -> RunStep:
    key = key or title.split()[0]
    return RunStep(stage=stage, key=key, title=title, inputs=inputs, cached=cached, seconds=12.5)


def result(contestant: str, metric: str = "top1", **changes: Any) -> Result:
    value = {"random": 0.125, "teacher": 0.25, "student": 0.5}[contestant]
    told: dict[str, Any] = {
        "experiment": "sample",
        "contestant": contestant,
        "target": "one",
        "protocol": "knn",
        "layer": "pooled",
        "metric": metric,
        "value": value,
        "ci_low": value - 0.031,
        "ci_high": value + 0.031,
        "n_test": 1234,
        "k": 5,
        "seed": 7,
        "seconds": 1.0,
        "details": {"skipped": 3},
    }
    keys = dict.fromkeys(f"{stage}_key" for stage in ("pretrain", "extract", "cluster", "clusterfit"))
    return Result(**{**told, **keys, "transfer_key": contestant, **changes})


def artifact(folder: Path, stage: str) -> dict[str, Any]:
    """Write the files that a page reads of a stage other than the cluster report; what its manifest says."""
    config: dict[str, Any] = {"_target_": "a.Source", "root": "/place/of/photos.zip"}
    if stage == "cluster_report":
        config = {"gallery": {"columns": COLUMNS}}
    if stage in ("pretrain", "clusterfit"):
        (folder / "history.csv").write_text(
            "epoch,train/loss,val/loss,val/top1\n0,3.5,3.6,0.1\n1,2.5,2.75,0.2\n"
        )
    if stage == "cluster":
        with open(folder / "inertia.csv", "w", newline="") as file:
            csv.writer(file).writerows([["inertia"], [900.0], [700.0]])
    return {"config": config, "facts": {"train": 900, "val": 100}}


def clusters(folder: Path, sizes: np.ndarray, tag: str, pictured: int | None, noise: int) -> None:
    """A cluster report's artifact."""
    k, rng = len(sizes), np.random.default_rng(0)
    tags = [
        [{"name": tag, "count": 1, "lift": 2.0}, {"name": f"tag{number}", "count": 1, "lift": 3.0}]
        for number in range(k)
    ]
    columns = {"cluster": np.arange(k), "train": sizes, "radius_90": np.where(sizes, 1 / (1 + sizes), np.nan)}
    top = pa.array([some if size else [] for some, size in zip(tags, sizes, strict=True)])
    pq.write_table(pa.table({**columns, "top_tags": top}), folder / "clusters.parquet")
    shown = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes) if pictured is None else pictured]
    strips = [
        {"cluster": int(number)}
        | {place: rng.bytes(noise) if noise else strip(number) for place in ("nearest", "random")}
        | {"farthest": None}
        for number in shown
    ]
    pq.write_table(pa.Table.from_pylist(strips), folder / "gallery.parquet")
    facts = {
        "k": k,
        "engine": "Engine",
        "seed": 0,
        "sizes": {
            **{"mean": 10.0, "largest": 20, "largest_share": 0.2, "empty": 1, "singletons": 0},
            **{"imbalance": 1.5, "entropy": 0.9},
        },
        "train": {"rows": 900, "inertia": 700.0, "mean_squared_distance": 0.7},
        "agreement": {
            "tags": {
                **{"names": 9, "images": 900, "pairs": 1800, "nmi": 0.375, "ami": None},
                **{"purity": 0.5, "purity_of_one": 0.1},
            }
        },
    }
    (folder / "report.json").write_text(json.dumps(facts))


def colour(cluster: int) -> tuple[int, int, int]:
    """A plain colour that tells clusters from each other."""
    return 40 * (cluster % 6), 40 * (cluster // 6 % 6), 200


def strip(cluster: int) -> bytes:
    """Tiles side by side, as the stage encodes them."""
    encoded = io.BytesIO()
    Image.new("RGB", (TILE * COLUMNS, TILE), colour(cluster)).save(encoded, "WEBP", quality=75)
    return encoded.getvalue()
