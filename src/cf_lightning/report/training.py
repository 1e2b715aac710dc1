"""The training curves of a run."""

import csv
from pathlib import Path


def training_curves(history: Path, stage: str) -> list[str]:
    """One chart for each quantity of ``history.csv``, such as loss and top1; a line for each split and head.

    Args:
        history: the file; columns are ``epoch``, ``<split>/<quantity>`` and ``<split>/<quantity>_<head>``.
        stage: whose, for the titles.

    Raises:
        OSError: it is not there.
        ValueError: it is something else.
    """
    from cf_lightning.report.curves import Series, inline, line_chart

    with open(history, newline="") as file:
        lines = list(csv.DictReader(file))
    charts: dict[str, list[Series]] = {}
    for column in [name for name in lines[0] if "/" in name] if lines else []:
        split, _, measured = column.partition("/")
        quantity, _, head = measured.partition("_")
        found = [(int(line["epoch"]) + 1, float(line[column])) for line in lines if line[column]]
        if found:
            epochs, values = zip(*found, strict=True)
            charts.setdefault(quantity, []).append(Series(f"{split} {head}".strip(), epochs, values))
    pages = []
    for quantity, series in charts.items():
        last = int(max(one.x[-1] for one in series))
        ticks = {float(epoch): str(epoch) for epoch in range(1, last + 1, -(-last // 10))}
        figure = line_chart(series, x_label="epoch", y_label=quantity, ticks=ticks)
        told = "; ".join(f"{one.name} from {one.y[0]:.4g} to {one.y[-1]:.4g}" for one in series)
        title = f"{quantity} of {stage} by epoch"
        pages.append(inline(figure, f"{stage}-{quantity}", title, f"{told}, in {len(lines)} epochs."))
    return pages
