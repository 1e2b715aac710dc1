"""The table of a sweep, for terminals, papers and pages: targets down, contestants and k across."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from cf_lightning.results import Panel, is_shown
from cf_lightning.sweep import Estimate, Job, Point, points

DEFAULT = "default"  # the variant of a run that sets nothing of what others set
END = r"\\"  # of a row in LaTeX
Column = tuple[str, tuple[int, ...]]  # contestant, k
Row = tuple[Panel, str]  # panel, variant


@dataclass(frozen=True)
class Table:
    """The cells of the table and what stands around them.

    Attributes:
        title: the experiments.
        caption: what the numbers are.
        panels: what was measured, with a name for each.
        heads: names of the columns that name a row.
        rows: for each row its names, by panel and variant.
        columns: names of the columns of numbers, by contestant and k.
        cells: what was measured; not every cell of a half-finished sweep is there.
        best: the cells with the highest mean of their panel.
    """

    title: str
    caption: str
    panels: dict[Panel, str]
    heads: list[str]
    rows: dict[Row, list[str]]
    columns: dict[Column, str]
    cells: dict[tuple[Row, Column], Point]
    best: set[tuple[Row, Column]]


def table_of(jobs: Sequence[Job]) -> Table:
    """Arrange the points of the finished jobs; top-5 is only in ``sweep.csv``, as of a single run."""
    shown = [point for point in points(jobs) if is_shown(point.panel.metric)]
    cells = {((point.panel, point.variant), (point.contestant, point.k)): point for point in shown}
    several = len({point.panel.layer for point in shown}) > 1
    variants = list(dict.fromkeys(job.variant for job in jobs if job.results))
    how = {
        panel: f"{panel.protocol} {panel.layer + ' ' if several else ''}{panel.metric}"
        for panel in dict.fromkeys(point.panel for point in shown)
    }
    rows = {
        (panel, variant): [panel.target, how[panel], *([variant or DEFAULT] if len(variants) > 1 else [])]
        for panel in how
        for variant in variants
        if any(row == (panel, variant) for row, _ in cells)
    }
    names = list(dict.fromkeys(point.contestant for point in shown))
    columns = sorted({column for _, column in cells}, key=lambda column: (names.index(column[0]), column[1]))
    top = {panel: max(p.value.mean for p in shown if p.panel == panel) for panel, _ in rows}
    return Table(
        title=", ".join(dict.fromkeys(job.run.experiment for job in jobs if job.run and job.results)),
        caption=_caption(shown),
        panels={panel: f"{panel.target}, {name}" for panel, name in how.items()},
        heads=["target", "protocol", *(["variant"] if len(variants) > 1 else [])],
        rows=rows,
        columns={(name, k): f"{name} k={k_name(k)}" if k else name for name, k in columns},
        cells=cells,
        best={place for place, point in cells.items() if point.value.mean == top[point.panel]},
    )


def k_name(k: tuple[int, ...]) -> str:
    """As in ``results.csv``: several heads have a plus between."""
    return "+".join(map(str, k))


def percent(value: Estimate) -> str:
    """Mean and half the interval."""
    return f"{100 * value.mean:.1f} ±{50 * (value.high - value.low):.1f}"


def markdown(table: Table) -> str:
    """A table for a README or a pull request."""
    lines = [[*table.heads, *table.columns.values()]]
    lines.append(["---"] * len(table.heads) + ["---:"] * len(table.columns))
    for row, names in table.rows.items():
        lines.append([_escaped(name, r"\`*_{}[]<>#|~$&") for name in names])
        for column in table.columns:
            point = table.cells.get((row, column))
            text = percent(point.value) if point else "-"
            star = r" \*" if point and certain(point.gain) else ""
            lines[-1].append((f"**{text}**" if (row, column) in table.best else text) + star)
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{body}\n\n{table.caption.replace('*', chr(92) + '*')}\n"


def latex(table: Table) -> str:
    """A table for a paper; needs ``booktabs``."""
    lines = []
    for row, names in table.rows.items():
        lines.append([_tex(name) for name in names])
        for column in table.columns:
            point = table.cells.get((row, column))
            text = percent(point.value).replace(" ±", r"\,{\scriptsize$\pm$") + "}" if point else "--"
            star = "$^{*}$" if point and certain(point.gain) else ""
            lines[-1].append((rf"\textbf{{{text}}}" if (row, column) in table.best else text) + star)
    body = [" & ".join(line) + f" {END}" for line in lines]
    spec = "l" * len(table.heads) + "r" * len(table.columns)
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{_tex(table.caption)}}}",
            rf"\begin{{tabular}}{{{spec}}}",
            r"\toprule",
            *_tex_head(table),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def sweep_table(jobs: Sequence[Job]) -> RichTable:
    """The table for a terminal; what a contestant gains over its teacher is starred where it is certain."""
    table = table_of(jobs)
    rich = RichTable(
        title=Text(table.title or "no finished run", style="bold"),
        title_justify="left",
        caption=Text(table.caption, style="dim"),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for name in table.heads:
        rich.add_column(Text(name), overflow="fold")
    for name in table.columns.values():
        rich.add_column(Text(name), justify="right")
    for row, names in table.rows.items():
        cells = [_cell(table, row, column) for column in table.columns]
        rich.add_row(*map(Text, names), *cells)
    return rich


def certain(gain: Estimate | None) -> bool:
    """The interval of a difference excludes 0."""
    return gain is not None and (gain.low > 0 or gain.high < 0)


def _cell(table: Table, row: Row, column: Column) -> Text:
    point = table.cells.get((row, column))
    if point is None:
        return Text("-", style="dim")
    mean, half = percent(point.value).split(" ")
    star = "* " if certain(point.gain) else ""
    return Text.assemble(star, (mean, "bold" if (row, column) in table.best else ""), (f" {half}", "dim"))


def _caption(shown: Sequence[Point]) -> str:
    """What stands after ±, for whom, and what bold and star mean."""
    if not shown:
        return "No finished run yet."
    seeds: dict[str, set[int]] = {}
    for point in shown:
        seeds.setdefault(point.contestant, set()).add(point.value.seeds)
    told: dict[str, list[str]] = {}
    for name, counts in seeds.items():
        several = " to ".join(map(str, sorted({min(counts - {1}), max(counts)}))) if counts != {1} else ""
        one = "the test samples, Wilson" if 1 in counts else ""
        how = f"over {several} seeds, Student's t" if several else f"over {one}"
        told.setdefault(f"{how}, or with one seed over {one}" if several and one else how, []).append(name)
    over = "; ".join(f"{', '.join(names)}: {how}" for how, names in told.items())
    starred = any(certain(point.gain) for point in shown)
    stars = " *: the gain over the teacher, likewise over seeds or samples, excludes 0." if starred else ""
    return (
        f"Percent, mean ± half the 95 % interval ({over}). Bold: the best of its target and protocol.{stars}"
    )


def _tex_head(table: Table) -> tuple[str, str]:
    """Contestants, with a rule under those that have several k, and the k of each."""
    first, second = [""] * len(table.heads), [_tex(name) for name in table.heads]
    rules = ""
    for name, group in groupby(table.columns, key=lambda column: (column[0], bool(column[1]))):
        ks = [k_name(k) for _, k in group]
        start, end = len(second) + 1, len(second) + len(ks)
        first.append(rf"\multicolumn{{{len(ks)}}}{{c}}{{{_tex(name[0])}, $k$}}" if name[1] else _tex(name[0]))
        rules += rf"\cmidrule(lr){{{start}-{end}}}" if name[1] else ""
        second += ks
    return f"{' & '.join(first)} {END}{rules}", f"{' & '.join(second)} {END}"


def _tex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "±": r"$\pm$",
        "[": "{[}",
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    }
    return "".join(special.get(sign, sign) for sign in text)


def _escaped(text: str, special: str) -> str:
    return re.sub(f"([{re.escape(special)}])", r"\\\1", text)
