"""Folders of runs as ``pipeline.run`` leaves them, without running anything."""

from pathlib import Path
from typing import Any, Literal

from cf_lightning.results import Result, write_results
from cf_lightning.runs import Run, RunStep


def result(contestant: str, value: float, key: str, k: int | list[int] | None = 64, **changes: Any) -> Result:
    given: dict[str, Any] = {
        "experiment": "demo",
        "contestant": contestant,
        "target": "birds",
        "protocol": "knn",
        "layer": "pooled",
        "metric": "top1",
        "value": value,
        "ci_low": value - 0.02,
        "ci_high": value + 0.03,
        "n_test": 500,
        "k": k,
        "seed": 0,
        "seconds": 1.5,
        "pretrain_key": None if contestant == "random" else "p",
        "extract_key": None,
        "cluster_key": "c" if contestant == "student" else None,
        "clusterfit_key": None,
        "transfer_key": key,
        "details": {"skipped": 0},
    }
    return Result(**{**given, **changes})


def write_run(
    folder: Path,
    results: list[Result],
    *overrides: str,
    seconds: float = 10.0,
    status: Literal["running", "done", "failed"] = "done",
    error: str | None = None,
) -> Path:
    stages = {"pretrain": 100.0, "space": 1.0, "cluster": 2.0, "clusterfit": seconds - 3, "transfer": 50.0}
    steps = [
        RunStep(stage=name, key=name, title=name, inputs={}, cached=name == "pretrain", seconds=seconds)
        for name, seconds in stages.items()
    ]
    Run(
        status=status,
        error=error,
        experiment="demo",
        overrides=["+experiment=demo", *overrides],
        started="2026-01-01T00:00:00+00:00",
        seconds=163.0,
        store=str(folder / "store"),
        steps=steps,
    ).write(folder)
    if status == "done":
        write_results(folder, results)
    return folder


def write_jobs(sweep: Path, ks: tuple[int, ...] = (4, 16), seeds: int = 3) -> Path:
    """A multirun over k and the student's seed; student = 0.3 + k / 1000 + seed / 100, teacher 0.31."""
    places = [(k, seed) for k in ks for seed in range(seeds)]
    for job, (k, seed) in enumerate(places):
        rows = [
            result("random", 0.1, "r", k),
            result("teacher", 0.31, "t", k),
            result("student", 0.3 + k / 1000 + seed / 100, f"s{k}-{seed}", k, seed=seed),
            result("student", 0.9, f"s{k}-{seed}", k, metric="top5"),
        ]
        write_run(sweep / str(job), rows, f"cluster.k={k}", f"clusterfit.seed={seed}", seconds=10.0 + k)
    return sweep
