"""``report.html`` of one run: what ran, what came out, how to have it again."""

import logging
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cf_lightning.errors import DataError, StoreError
from cf_lightning.report.gallery import BYTES, clustering
from cf_lightning.report.page import write_page
from cf_lightning.report.training import training_curves
from cf_lightning.results import Result, gain, is_shown, notes, read_results, student_of, table_rows
from cf_lightning.runs import Run, RunStep
from cf_lightning.store import verified
from cf_lightning.store.manifest import read_manifest

if TYPE_CHECKING:
    from cf_lightning.tracking.base import Tracker

PAGE, HISTORY = "report.html", "history.csv"


@contextmanager
def reported(folder: Path, tracker: "Tracker | None") -> Iterator[None]:
    """Write the page when a run has ended, well or not, and show a tracker what came out.

    A run does not fail for want of a page.
    """
    try:
        yield
    except Exception:
        _try_to_write(folder)
        raise
    _try_to_write(folder)
    if tracker:
        tracker.results(folder, Run.read(folder), read_results(folder))


def _try_to_write(folder: Path) -> None:
    try:
        write_run_report(folder)
    except Exception as error:
        logging.getLogger(__name__).warning(
            "%s: not written: %s: %s", folder / PAGE, type(error).__name__, error
        )


def write_run_report(folder: Path) -> Path:
    """Write the page of a run, also of one that failed; imports neither torch nor lightning.

    What is no longer in the store is left out, and the page says so.

    Args:
        folder: of the run, with ``run.json``.

    Returns:
        The page.

    Raises:
        DataError: it is no run's folder.
    """
    run = Run.read(folder)
    try:
        results, no_results = read_results(folder), None
    except DataError as error:
        results, no_results = [], str(error)
    reports = [step for step in _made(run) if step.stage == "cluster_report"]
    trained = [step for step in _made(run) if step.stage in ("pretrain", "clusterfit", "train")]
    write_page(
        folder / PAGE,
        "run.html",
        run=run,
        started=datetime.fromisoformat(run.started),
        data=_data(run),
        k=next((_plain(result.k) for result in results if result.k is not None), None),
        seed=results[0].seed if results else None,
        table=result_table(results),
        no_results=no_results,
        training=[_shown(step, lambda step: _training(run, step)) for step in trained],
        clusterings=[
            _shown(step, lambda step: _clustering(run, step, BYTES // len(reports))) for step in reports
        ],
        made=[step.seconds for step in _made(run) if not step.cached],
        cached=[step.seconds for step in _made(run) if step.cached],
        longest=max((step.seconds or 0 for step in run.steps), default=0) or 1,
        command=shlex.join(["python", "-m", "cf_lightning", *run.overrides]),
    )
    return folder / PAGE


def result_table(results: list[Result]) -> dict[str, Any] | None:
    """As on the terminal: a row for each target and protocol, a column for each contestant."""
    shown = [result for result in results if is_shown(result.metric)]
    if not shown:
        return None
    contestants = list(dict.fromkeys(result.contestant for result in shown))
    rows = []
    for (target, protocol), found in table_rows(shown).items():
        student = student_of(found)
        rows.append(
            {
                "target": target,
                "protocol": protocol,
                "cells": [found.get(contestant) for contestant in contestants],
                "gain": gain(found["teacher"], found[student]) if student else None,
                "n_test": max(result.n_test for result in found.values()),
            }
        )
    return {
        "contestants": contestants,
        "rows": rows,
        "compared": student_of(contestants) is not None,
        "notes": notes(results),
        "figure": _dots(contestants, rows),
    }


def _dots(contestants: list[str], rows: list[dict[str, Any]]) -> str:
    """The table as a picture: dots with intervals."""
    from cf_lightning.report.curves import Series, dot_plot, inline

    series = []
    for column, contestant in enumerate(contestants):
        found = [(number, row["cells"][column]) for number, row in enumerate(rows) if row["cells"][column]]
        series.append(
            Series(
                contestant,
                [number for number, _ in found],
                *([100 * getattr(cell, end) for _, cell in found] for end in ("value", "ci_low", "ci_high")),
            )
        )
    figure = dot_plot([f"{row['target']}\n{row['protocol']}" for row in rows], series, x_label="percent")
    told = "The numbers of the table, with their 95 % intervals."
    return inline(figure, "results", "Transfer of each contestant", told)


def _made(run: Run) -> list[RunStep]:
    return [step for step in run.steps if step.seconds is not None]


def _shown(step: RunStep, show: Callable[[RunStep], dict[str, Any]]) -> dict[str, Any]:
    """What ``show`` makes of a step's artifact, or why there is nothing to show."""
    try:
        return {"step": step, "problem": None, **show(step)}
    except (OSError, StoreError, ValueError, KeyError) as error:
        problem = (
            str(error) if isinstance(error, OSError | StoreError) else f"{type(error).__name__}: {error}"
        )
        return {"step": step, "problem": problem}


def _training(run: Run, step: RunStep) -> dict[str, Any]:
    """Of a trained network; one that was given has no history."""
    folder = run.path(step)
    if HISTORY not in verified(folder, ())["files"]:
        return {"figures": []}
    verified(folder, (HISTORY,))
    return {"figures": training_curves(folder / HISTORY, step.stage)}


def _clustering(run: Run, step: RunStep, number_of_bytes: int) -> dict[str, Any]:
    return clustering(run.path(step), Path(run.store) / step.inputs["labels"], number_of_bytes)


def _plain(k: int | list[int]) -> str:
    return ", ".join(map(str, k)) if isinstance(k, list) else str(k)


def _data(run: Run) -> dict[str, str] | None:
    """The name of D_cf and its images by split, if its index is there; or what is wrong with it."""
    try:
        step = next(step for step in run.steps if step.title == "data")
        manifest = read_manifest(run.path(step))
    except StopIteration:
        return None
    except (OSError, StoreError) as error:
        return {"name": "damaged", "splits": str(error)}
    if manifest is None:
        return None
    config, splits = manifest["config"], manifest["facts"].items()
    name = Path(config.get("root") or config["_target_"].rpartition(".")[2]).name
    return {"name": name, "splits": ", ".join(f"{count:,} {split}" for split, count in splits)}
