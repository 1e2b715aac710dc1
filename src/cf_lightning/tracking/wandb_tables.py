"""Results as W&B shows them: tables, gains, and curves over k."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import wandb
from wandb.plot.custom_chart import CustomChart

from cf_lightning.results import STUDENTS, Panel, Result, cell, gain, is_shown, panel_of
from cf_lightning.runs import RunStep
from cf_lightning.sweep import Point

Line = list[tuple[int, float]]  # k and a value, k ascending


def table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> wandb.Table:
    """A table of W&B."""
    return wandb.Table(columns=[*columns], data=[[*row] for row in rows])


def csv_table(file: Path) -> wandb.Table:
    """A CSV file as a table; a column of numbers is one, unless it holds keys."""
    with open(file, newline="") as stream:
        names, *rows = csv.reader(stream)
    columns = [_typed(name, cells) for name, cells in zip(names, zip(*rows, strict=True), strict=False)]
    return table(names, zip(*columns, strict=True))


def gains_table(results: Sequence[Result]) -> wandb.Table:
    """What the student has more than the teacher, in fractions; see ``results.gain``."""
    names = ["target", "protocol", "layer", "metric", "k", "seed", "gain", "low", "high"]
    rows = [[*panel, cell(student.k), student.seed, *found] for panel, student, found in _gains(results)]
    return table(names, rows)


def gain_numbers(results: Sequence[Result]) -> dict[str, float]:
    """The same by name: ``gain/<target>/<protocol>/<layer>/<metric>``, and ``.../low`` and ``.../high``."""
    numbers: dict[str, float] = {}
    for panel, _, (difference, low, high) in _gains(results):
        name = "/".join(["gain", *panel])
        numbers |= {name: difference, f"{name}/low": low, f"{name}/high": high}
    return numbers


def steps_table(steps: Sequence[RunStep]) -> wandb.Table:
    """What ran and what was cached, and the seconds that its making took."""
    names = ["stage", "title", "key", "cached", "seconds"]
    return table(names, ([getattr(step, name) for name in names] for step in steps))


def k_curves(points: Sequence[Point]) -> dict[str, CustomChart]:
    """A chart of the value against k for each panel, and ``gain_over_k`` with the gains of all of them.

    A student of several k at once has no place on the axis; top-5 is only in the tables.
    """
    charts: dict[str, CustomChart] = {}
    gains: dict[str, Line] = {}
    for panel in dict.fromkeys(point.panel for point in points if is_shown(point.panel.metric)):
        here = [point for point in points if point.panel == panel]
        lines = _lines(here)
        ks = sorted({k for line in lines.values() for k, _ in line})
        if len(ks) < 2:
            continue
        lines |= {_name(point): [(k, point.value.mean) for k in ks] for point in here if not point.k}
        title = f"{panel.metric} on {panel.target}: {panel.protocol} of {panel.layer}"
        charts["/".join(["curve", *panel])] = _chart(lines, title)
        for name, line in _lines(here, gains=True).items():
            gains[f"{panel.target} {panel.protocol} {panel.layer} {panel.metric} {name}"] = line
    return charts | ({"gain_over_k": _chart(gains, "student - teacher")} if gains else {})


def _lines(points: Sequence[Point], gains: bool = False) -> dict[str, Line]:
    """Of each contestant that knows clusters, its (k, mean), k ascending."""
    lines: dict[str, Line] = {}
    for point in points:
        shown = point.gain if gains else point.value
        if len(point.k) == 1 and shown:
            lines.setdefault(_name(point), []).append((point.k[0], shown.mean))
    return lines


def _name(point: Point) -> str:
    return f"{point.contestant} {point.variant}".strip()


def _chart(lines: dict[str, Line], title: str) -> CustomChart:
    xs = [[k for k, _ in line] for line in lines.values()]
    ys = [[value for _, value in line] for line in lines.values()]
    return wandb.plot.line_series(xs, ys, list(lines), title, "k")


def _gains(results: Sequence[Result]) -> list[tuple[Panel, Result, tuple[float, float, float]]]:
    """Student minus teacher wherever both were measured."""
    teachers = {panel_of(one): one for one in results if one.contestant == "teacher"}
    students = {panel_of(one): one for one in results if one.contestant in STUDENTS}
    return [(p, one, gain(teachers[p], one)) for p, one in students.items() if p in teachers]


def _typed(name: str, cells: Sequence[str]) -> list[Any]:
    if not name.endswith("_key"):
        try:
            return [float(cell) if cell else None for cell in cells]
        except ValueError:
            pass
    return [cell or None for cell in cells]
