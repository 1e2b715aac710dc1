"""The curves of a clustering, as PNG files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILL, ACCENT = "#4878a8", "#c8553d"


def draw_sizes(path: Path, sizes: np.ndarray) -> None:
    """A histogram of (K,) cluster sizes on a logarithmic axis; empty clusters have no place on it."""
    sizes = sizes[sizes > 0]
    mean = sizes.mean()
    edges = np.exp(np.histogram_bin_edges(np.log(sizes), "rice")).tolist()
    with _axes(path) as axes:
        axes.hist(sizes, bins=edges, color=FILL, edgecolor="white", linewidth=0.5)
        axes.axvline(mean, color=ACCENT, linewidth=1.2)
        place = axes.get_xaxis_transform()
        axes.text(mean, 1.02, f"mean {mean:,.4g}", ha="center", color=ACCENT, transform=place)
        axes.set_xscale("log", subs=[2, 5] if edges[-1] < 100 * edges[0] else [])  # room for their names
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_minor_formatter("{x:,.0f}")
        axes.locator_params("y", integer=True)
        axes.set_xlabel("images in a cluster")
        axes.set_ylabel("clusters")


def draw_inertia(path: Path, inertia: Sequence[float]) -> None:
    """The inertia of each iteration against the first one's."""
    percent = 100 * np.asarray(inertia) / (inertia[0] or 1)
    with _axes(path) as axes:
        axes.plot(np.arange(1, len(percent) + 1), percent, color=FILL, marker=".", markersize=5)
        axes.annotate(
            f"{inertia[-1]:.4g}", (len(percent), percent[-1]), (0, 6), textcoords="offset points", ha="right"
        )
        axes.set_xlim(0.5, len(percent) + 0.5)
        axes.locator_params("x", integer=True)
        axes.set_xlabel("iteration")
        axes.set_ylabel("inertia, % of the first")


@contextmanager
def _axes(path: Path) -> Iterator["Axes"]:
    """Plain axes; what was drawn is saved at the end. No window and no global state of pyplot."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(4.6, 2.8), dpi=200, layout="constrained")
        yield figure.add_subplot()
        figure.savefig(path, metadata={"Software": None})
