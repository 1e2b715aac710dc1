"""The pictures of a sweep: transfer against k, and against what k costs."""

from collections.abc import Sequence
from itertools import groupby
from statistics import fmean

from matplotlib.figure import Figure

from cf_lightning.report.curves import Level, Series, dot_plot, line_chart
from cf_lightning.report.sweep_table import DEFAULT, k_name, percent
from cf_lightning.sweep import Point


def draw_panel(points: Sequence[Point]) -> Figure:
    """Transfer against k, a line for each variant; of one k alone a row for each variant.

    Args:
        points: of one panel.
    """
    label = f"{points[0].panel.metric}, %"
    ks = sorted({point.k for point in points if point.k})
    if len(ks) < 2:
        return _against_variants(points, label)
    numbers = all(len(k) == 1 for k in ks)
    place = {k: float(k[0]) if numbers else float(number) for number, k in enumerate(ks)}
    lines = _lines([point for point in points if point.k])
    series = [_series(name, line, [place[point.k] for point in line]) for name, line in lines.items()]
    levels = _levels([point for point in points if not point.k])
    ticks = {place[k]: k_name(k) for k in ks}
    return line_chart(series, levels, x_label="clusters k", y_label=label, log_x=numbers, ticks=ticks)


def draw_cost(points: Sequence[Point]) -> Figure | None:
    """The mean over targets and protocols against the seconds that a k costs; none with one point.

    Args:
        points: of all panels.
    """
    several = len({point.k for point in points if point.k}) > 1
    series = []
    for name, line in _lines([point for point in points if point.k and point.cost]).items():
        by_k = [list(group) for _, group in groupby(sorted(line, key=lambda p: p.k), key=lambda p: p.k)]
        place = [fmean(point.cost or 0 for point in group) for group in by_k]
        value = [100 * fmean(point.value.mean for point in group) for group in by_k]
        labels = [f"k={k_name(group[0].k)}" for group in by_k] if several else []
        series.append(Series(name, place, value, labels=labels))
    if sum(len(one.x) for one in series) < 2:
        return None
    teacher = [100 * point.value.mean for point in points if point.contestant == "teacher"]
    levels = [Level("teacher", fmean(teacher))] if teacher else []
    return line_chart(series, levels, x_label="seconds of clustering and student", y_label="mean transfer, %")


def told(points: Sequence[Point]) -> str:
    """The numbers of a picture, for those who do not see it."""
    return "; ".join(
        " ".join(filter(None, (point.contestant, point.variant, k_name(point.k) and f"k={k_name(point.k)}")))
        + f": {percent(point.value)} %"
        for point in points
    )


def _against_variants(points: Sequence[Point], label: str) -> Figure:
    """A row for each variant; who is the same in all of them is a line across."""
    variants = list(dict.fromkeys(point.variant for point in points))
    lines: dict[str, list[Point]] = {}
    for point in points:
        lines.setdefault(point.contestant, []).append(point)
    moving = {name for name, line in lines.items() if line[0].k or len({point.value for point in line}) > 1}
    series = [
        _series(name, lines[name], [variants.index(point.variant) for point in lines[name]])
        for name in lines
        if name in moving
    ]
    levels = _levels([point for point in points if point.contestant not in moving])
    return dot_plot(
        [variant or DEFAULT for variant in variants] if len(variants) > 1 else [""],
        series,
        levels,
        x_label=label,
    )


def _lines(points: Sequence[Point]) -> dict[str, list[Point]]:
    """The points that a line joins, by its name, which leaves out what all have in common."""
    alone = len({point.contestant for point in points}) == 1
    lines: dict[str, list[Point]] = {}
    for point in points:
        name = point.variant if alone and point.variant else f"{point.contestant} {point.variant}".strip()
        lines.setdefault(name, []).append(point)
    return lines


def _series(name: str, line: Sequence[Point], place: Sequence[float]) -> Series:
    mean, low, high = ([100 * getattr(point.value, end) for point in line] for end in ("mean", "low", "high"))
    return Series(name, place, mean, low, high)


def _levels(points: Sequence[Point]) -> list[Level]:
    """A line for each different value of those that know no clusters; random has no band."""
    levels: dict[tuple[str, float], Level] = {}
    for point in points:
        same = len({other.value for other in points if other.contestant == point.contestant}) == 1
        name = point.contestant if same else f"{point.contestant} {point.variant}"
        floor = point.contestant == "random"
        band = None if floor else (100 * point.value.low, 100 * point.value.high)
        key = (point.contestant, point.value.mean)
        levels.setdefault(key, Level(name, 100 * point.value.mean, band, dotted=floor))
    return list(levels.values())
