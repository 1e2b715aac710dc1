"""The figures of a clustering, for its artifact and for pages."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from cf_lightning.report.curves import COLOURS, STYLE, Series, line_chart, plain_axes


@rc_context(STYLE)
def sizes_figure(sizes: np.ndarray) -> Figure:
    """A histogram of (K,) cluster sizes on a logarithmic axis; empty clusters have no place on it."""
    sizes = sizes[sizes > 0]
    mean = sizes.mean()
    edges = np.exp(np.histogram_bin_edges(np.log(sizes), "rice")).tolist()
    figure, axes = plain_axes(2.7)
    axes.hist(sizes, bins=edges, color=COLOURS[0], alpha=0.75, edgecolor=COLOURS[0], linewidth=0.5)
    axes.axvline(mean, color=COLOURS[1], linewidth=1.2)
    top = axes.get_xaxis_transform()
    axes.text(mean, 1.02, f"mean {mean:,.4g}", ha="center", color=COLOURS[1], transform=top)
    axes.set_xscale("log", subs=[2, 5] if edges[-1] < 100 * edges[0] else [])  # room for their names
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter("{x:,.0f}")
    axes.locator_params("y", integer=True)
    axes.set(xlabel="samples in a cluster", ylabel="clusters")
    return figure


def inertia_figure(inertia: Sequence[float]) -> Figure:
    """The inertia of each iteration against the first one's."""
    percent = (100 * np.asarray(inertia) / (inertia[0] or 1)).tolist()
    line = Series(f"{inertia[-1]:.4g}", range(1, len(percent) + 1), percent)
    figure = line_chart([line], x_label="iteration", y_label="inertia, % of the first")
    figure.axes[0].locator_params("x", integer=True)
    return figure
