"""What a sweep leaves behind: tables, pictures and a page, written anew after each of its jobs."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from filelock import FileLock

from cf_lightning.report.curves import inline, save
from cf_lightning.report.page import write_page
from cf_lightning.report.sweep_curves import draw_cost, draw_panel, told
from cf_lightning.report.sweep_table import Table, certain, latex, markdown, percent, table_of
from cf_lightning.results import COLUMNS, replace_file, write_csv
from cf_lightning.sweep import Job, Point, commands, job_folders, read_jobs

if TYPE_CHECKING:
    from cf_lightning.tracking.base import Tracker


def write_sweep(folder: Path, logger: "Tracker | None" = None) -> list[Job]:
    """Write the files of a multirun into its folder; several processes may do so at once.

    Args:
        folder: of the multirun; its jobs are the sub-folders.
        logger: is told of the folder when all is there.

    Returns:
        The jobs; those with a ``problem`` are left out of tables and pictures.
    """
    return _write(lambda: job_folders(folder), folder, logger)


def write_comparison(folders: Sequence[Path], out: Path) -> list[Job]:
    """Write the same files about any runs into ``out``, which is made."""
    out.mkdir(parents=True, exist_ok=True)
    return _write(lambda: folders, out)


def _write(folders: Callable[[], Iterable[Path]], out: Path, logger: "Tracker | None" = None) -> list[Job]:
    """Read and write under one lock: who comes last has seen the most."""
    with FileLock(out / ".report.lock"):
        jobs = read_jobs(folders())
        table = table_of(jobs)
        _write_lists(jobs, out)
        replace_file(out / "sweep.md", markdown(table))
        replace_file(out / "sweep.tex", latex(table))
        write_page(
            out / "report.html",
            "sweep.html",
            jobs=jobs,
            done=[job for job in jobs if job.problem is None],
            swept=list(dict.fromkeys(one.partition("=")[0] for job in jobs for one in job.overrides)),
            table=table,
            charts=_charts(table, out),
            best=_best(table),
            logs={job.name: quote(_log(job, out)) for job in jobs},
            reports={job.name: _link(job.folder / "report.html", out) for job in jobs},
            commands=commands(jobs),
            shown=percent,
            certain=certain,
        )
        if logger:
            logger.sweep(out)
    return jobs


def _write_lists(jobs: Sequence[Job], out: Path) -> None:
    """``sweep.csv`` and ``failed.csv``."""
    named = {job.name: {"job": job.name, "overrides": " ".join(job.overrides)} for job in jobs}
    rows = [
        {**named[job.name], "cost_seconds": job.cost, **asdict(result)}
        for job in jobs
        for result in job.results
    ]
    write_csv(out / "sweep.csv", ("job", "overrides", "cost_seconds", *COLUMNS), rows)
    failed = [{**named[job.name], "error": job.problem, "log": _log(job, out)} for job in jobs if job.failed]
    write_csv(out / "failed.csv", ("job", "overrides", "error", "log"), failed)


def _charts(table: Table, out: Path) -> list[dict[str, Any]]:
    """A picture for each panel and one of the cost, in files and for the page."""
    charts = []
    for panel, title in table.panels.items():
        points = [point for point in table.cells.values() if point.panel == panel]
        charts.append(
            (f"curve_{title.replace(', ', '_').replace(' ', '_')}", title, draw_panel(points), points)
        )
    points = [point for point in table.cells.values() if point.k]
    if cost := draw_cost(list(table.cells.values())):
        charts.append(("cost", "transfer against cost", cost, points))
    shown = []
    for name, title, figure, points in charts:
        stem = re.sub(r"[^\w.+=-]+", "-", name)
        save(figure, out / stem)
        shown.append({"name": stem, "title": title, "svg": inline(figure, stem, title, told(points))})
    return shown


def _best(table: Table) -> Point | None:
    """Who gains most over the teacher, and where."""
    gains = {point: point.gain.mean for point in table.cells.values() if point.gain}
    return max(gains, key=gains.__getitem__, default=None)


def _log(job: Job, out: Path) -> str:
    """Its path as seen from ``out``; empty where there is none."""
    file = job.folder / "job.log"
    return os.path.relpath(file, out.resolve()) if file.exists() else ""


def _link(file: Path, out: Path) -> str:
    """A relative URL; empty where there is no such file."""
    return quote(os.path.relpath(file, out.resolve())) if file.exists() else ""
