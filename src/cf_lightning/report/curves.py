"""Charts with matplotlib: for a page as SVG that takes its colours from it, for a paper as files on white."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cf_lightning.results import replace_file

INK = "#1b1c1e"  # text and axes; a page replaces it by its own colour of text
PAPER = "#fefefe"  # the ground; a page replaces it by nothing
# Of Okabe and Ito's colours those that stand out from white, each with its lighter sister for a dark page;
# shapes tell as much as colours do
NIGHT = {"#0072b2": "#56b4e9", "#c65500": "#f0945a", "#00835f": "#3fc79a", "#b0508f": "#e39ac6"}
COLOURS, SHAPES = tuple(NIGHT), "osD^v"
LONG = 18  # letters of a name that would leave a line no room beside it
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "cf_lightning",
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("figure.facecolor", "savefig.facecolor"), PAPER),
    "axes.facecolor": "none",
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Series:
    """Points that belong together.

    Attributes:
        name: what stands beside them.
        x: one number for each point.
        y: likewise.
        low: lower ends of their intervals; empty where they have none.
        high: upper ends.
        labels: a word at each point; empty for none.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    labels: Sequence[str] = ()

    def errors(self) -> Any:
        """What matplotlib calls error bars: (2, points), as distances."""
        if not self.low:
            return None
        below = [y - low for y, low in zip(self.y, self.low, strict=True)]
        return below, [high - y for y, high in zip(self.y, self.high, strict=True)]


@dataclass(frozen=True)
class Level:
    """A value that the others are compared with: a line across the chart, in the text's colour.

    Attributes:
        name: what stands beside it.
        y: the value.
        band: lower and upper end of its interval, where that is to be seen.
        dotted: for what is only there as a floor.
    """

    name: str
    y: float
    band: tuple[float, float] | None = None
    dotted: bool = False


@rc_context(STYLE)
def line_chart(
    series: Sequence[Series],
    levels: Sequence[Level] = (),
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    ticks: Mapping[float, str] | None = None,
) -> Figure:
    """Lines, each with its name at its right end, or above the chart where names are long.

    Args:
        series: the lines; points are marked where there are few.
        levels: lines across.
        x_label: of the axis.
        y_label: likewise.
        log_x: for x over several magnitudes.
        ticks: the only ticks of the x axis, with their names.
    """
    names = [*(one.name for one in series), *(level.name for level in levels)]
    long = any(len(name) > LONG for name in names)
    figure, axes = plain_axes(2.7 + 0.18 * long * len(names))
    for number, one in enumerate(series):
        _line(axes, one, COLOURS[number % len(COLOURS)], SHAPES[number % len(SHAPES)])
    for level in levels:
        _level(axes.axhline, axes.axhspan, level)
    if log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    if ticks is not None:
        axes.set_xticks(list(ticks), list(ticks.values()), minor=False)
        axes.set_xticks([], minor=True)
    axes.set(xlabel=x_label, ylabel=y_label)
    if long:
        figure.legend(loc="outside upper left")
    else:
        ends = [(level.y, level.name, INK) for level in levels]
        ends += [(one.y[-1], one.name, COLOURS[number % len(COLOURS)]) for number, one in enumerate(series)]
        _name_ends(axes, ends)
    return figure


@rc_context(STYLE)
def dot_plot(
    rows: Sequence[str], series: Sequence[Series], levels: Sequence[Level] = (), *, x_label: str
) -> Figure:
    """Values with intervals in named rows, from top to bottom.

    Args:
        rows: their names.
        series: ``x`` are the rows' numbers, ``y`` the values; a legend tells several from each other.
        levels: lines from top to bottom, in the legend too.
        x_label: of the values' axis.
    """
    named = len(series) + len(levels)
    legend = 0.2 * -(-named // 3) if named > 1 else 0  # inches: three names a line
    figure, axes = plain_axes(0.9 + max(0.3, 0.16 * len(series)) * len(rows) + legend)
    for number, one in enumerate(series):
        place = [row + min(0.22, 0.8 / len(series)) * (number - (len(series) - 1) / 2) for row in one.x]
        colour, shape = COLOURS[number % len(COLOURS)], SHAPES[number % len(SHAPES)]
        axes.errorbar(
            one.y,
            place,
            xerr=one.errors(),
            color=colour,
            linestyle="",
            marker=shape,
            markersize=5,
            label=one.name,
        )
    for level in levels:
        _level(axes.axvline, axes.axvspan, level)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(x_label)
    axes.spines["left"].set_visible(False)
    axes.tick_params("y", length=0)
    if legend:
        figure.legend(loc="outside upper left", ncols=3, handletextpad=0.4)
    return figure


def inline(figure: Figure, name: str, title: str, description: str) -> str:
    """The chart as an ``<svg>`` element for a page.

    Text and axes are in ``currentColor``, the ground is clear, the width is the page's business.

    Args:
        figure: drawn here.
        name: begins every id, so that several charts can be on one page.
        title: what a screen reader calls it.
        description: what is to be seen, with the numbers that matter.
    """
    slug = re.sub(r"\W", "-", name)
    svg = _svg(figure).replace(INK, "currentColor").replace(PAPER, "none")
    for day, night in NIGHT.items():
        svg = svg.replace(day, f"light-dark({day}, {night})")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{slug}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box, "matplotlib writes a viewBox"
    head = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {box[0]} role="img" stroke-linejoin="round"'
    named = f'<title id="{slug}-title">{html.escape(title)}</title>'
    told = f'<desc id="{slug}-desc">{html.escape(description)}</desc>'
    body = svg[svg.index(">") + 1 :]
    return f'{head} aria-labelledby="{slug}-title" aria-describedby="{slug}-desc">{named}{told}{body}'


@rc_context(STYLE)
def save(figure: Figure, stem: Path) -> None:
    """Write ``<stem>.svg`` and ``<stem>.png`` (200 dpi) on white, each in one atomic step."""
    replace_file(stem.with_name(stem.name + ".svg"), _svg(figure).replace(PAPER, "#ffffff"))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    replace_file(stem.with_name(stem.name + ".png"), buffer.getvalue())


def plain_axes(height: float) -> tuple[Figure, Axes]:
    """Axes for a chart, ``height`` inches high; no window and no global state of pyplot."""
    figure = Figure(figsize=(4.6, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color=INK, alpha=0.12, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


@rc_context(STYLE)
def _svg(figure: Figure) -> str:
    """The same bytes for the same chart: no date, no random ids."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"'DejaVu Sans'[^;\"]*", FONT, buffer.getvalue())


def _line(axes: Axes, one: Series, colour: str, shape: str) -> None:
    """The points of a series, joined; marked where they are few."""
    look: dict[str, Any] = {"color": colour, "linewidth": 1.6, "elinewidth": 1.1, "capsize": 2.5}
    if len(one.x) <= 20:
        look |= {"marker": shape, "markersize": 4.5}
    axes.errorbar(one.x, one.y, one.errors(), label=one.name, **look)
    for number, (x, y, label) in enumerate(zip(one.x, one.y, one.labels, strict=False)):
        side: dict[str, Any] = {"ha": "left", "va": "top"} if number % 2 else {"ha": "right", "va": "bottom"}
        place = (3, -3) if number % 2 else (-3, 3)  # neighbours on a rising line do not touch
        axes.annotate(label, (x, y), place, textcoords="offset points", color=colour, **side)
    if one.labels:
        axes.margins(0.2, 0.14)  # room for the words


def _level(line: Any, span: Any, level: Level) -> None:
    line(level.y, color=INK, linewidth=1.2, label=level.name, linestyle=":" if level.dotted else "-")
    if level.band:
        span(*level.band, color=INK, alpha=0.1, linewidth=0)


def _name_ends(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write names at the right edge, as near to their lines' ends as they can be without touching."""
    low, high = axes.get_ylim()
    gap = 0.075 * (high - low)
    ends = sorted(ends)
    places = [y for y, _, _ in ends]
    for _ in range(100):  # neighbours that touch push each other away
        for i in range(len(places) - 1):
            push = max(0.0, gap - (places[i + 1] - places[i])) / 2
            places[i], places[i + 1] = places[i] - push, places[i + 1] + push
    for place, (_, name, colour) in zip(places, ends, strict=True):
        axes.text(1.02, place, name, color=colour, va="center", transform=axes.get_yaxis_transform())
    axes.set_ylim(low, high)
