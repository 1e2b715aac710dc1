"""The runs of ``student_options.py`` as numbers, a table and a picture; it may be called while they go on.

python -m experiments.student_options.summarise FOLDER [--out FOLDER]

Writes ``results.csv`` (every number of every run), ``results.md`` and ``gains.png``.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from experiments.student_options.options import BASELINE, OPTIONS
from scipy.stats import t

COLUMNS = ("contestant", "target", "protocol", "metric", "value", "ci_low", "ci_high", "n_test", "k")
KEYS = ("pretrain_key", "cluster_key", "clusterfit_key", "transfer_key")
CELLS = {
    ("tiny_imagenet", "linear"): "Other classes, linear",
    ("tiny_imagenet", "knn"): "Other classes, kNN",
    ("caltech101", "linear"): "Caltech-101, linear",
    ("caltech101", "knn"): "Caltech-101, kNN",
}
Row = dict[str, str]
Scores = dict[str, dict[int, np.ndarray]]  # row of the table -> seed -> (4,) percent, in the order of CELLS
MEAN = "Mean of four"


def read(work: Path) -> list[Row]:
    """What the finished runs have written, options in their order."""
    rows = []
    for option in OPTIONS:
        for file in sorted((work / "runs" / option.name).glob("*/results.csv")):
            with open(file, newline="") as text:
                rows += [
                    {"option": option.name, "student_seed": file.parent.name}
                    | {name: row[name] for name in COLUMNS + KEYS}
                    for row in csv.DictReader(text)
                ]
    return rows


def titles() -> dict[tuple[str, str], str]:
    """Row of the table of an option and a contestant; of rounds the second student has one, too."""
    named = {(BASELINE.name, "random"): "random weights", (BASELINE.name, "teacher"): "teacher"}
    for option in OPTIONS:
        contestant = "student_warm" if option.name == "warm" else "student"
        if option.name == "rounds":
            named[option.name, "student_2"] = "2 rounds"
        named[option.name, contestant] = option.title
    return named


def scores(rows: list[Row]) -> Scores:
    """Top-1 of every row of the table and seed."""
    named, cells = titles(), list(CELLS)
    found: Scores = {title: {} for title in named.values()}
    for row in rows:
        title = named.get((row["option"], row["contestant"]))
        if title and row["metric"] == "top1":
            seeds = found[title].setdefault(int(row["student_seed"]), np.full(len(CELLS), np.nan))
            seeds[cells.index((row["target"], row["protocol"]))] = 100 * float(row["value"])
    return {title: seeds for title, seeds in found.items() if seeds}


def mean_and_half(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over (seeds, columns): mean, and half the 95 % interval of Student's t; NaN from a single seed."""
    n = len(values)
    if n == 1:
        return values[0], np.full(values.shape[1], np.nan)
    return values.mean(0), t.ppf(0.975, n - 1) * values.std(0, ddof=1) / n**0.5


def gains(found: Scores) -> dict[str, np.ndarray]:
    """(seeds, 5) points more than the paper's student of the same seed; the last column is the mean."""
    base = found[BASELINE.title]
    gained = {}
    for title in [title for title in found if title not in ("random weights", "teacher", BASELINE.title)]:
        differences = [found[title][seed] - base[seed] for seed in sorted(found[title]) if seed in base]
        if differences:
            gained[title] = np.array([[*one, one.mean()] for one in differences])
    return gained


def markdown(found: Scores, gained: dict[str, np.ndarray]) -> str:
    """Both tables."""
    apart = _apart()
    lines = ["# The student's options", "", "Written by `summarise.py`; what it is: [README.md](README.md)."]
    lines += ["", "## Gain over the paper's student of the same seed, points", ""]
    lines += _head(["option", "seeds", *CELLS.values(), MEAN])
    for wanted in (False, True):
        for title in [title for title in gained if (title in apart) is wanted]:
            mean, half = mean_and_half(gained[title])
            cells = [_cell(m, h, "+") for m, h in zip(mean, half, strict=True)]
            lines.append(f"| {apart.get(title, title)} | {len(gained[title])} | {' | '.join(cells)} |")
    lines += ["", "Bold: the 95 % interval leaves zero out.", "", "## Top-1, percent", ""]
    lines += _head(["", "seeds", *CELLS.values()])
    for title, seeds in found.items():
        alike = title in ("random weights", "teacher")  # one network, whatever the student's seed
        values = np.array([seeds[seed] for seed in sorted(seeds)][: 1 if alike else None])
        mean, half = mean_and_half(values)
        cells = [_cell(m, h) for m, h in zip(mean, half, strict=True)]
        lines.append(f"| {apart.get(title, title)} | {len(values)} | {' | '.join(cells)} |")
    lines += ["", "Mean ± half the 95 % interval (Student's t) over the student's seeds.", ""]
    return "\n".join(lines)


def draw(gained: dict[str, np.ndarray], file: Path) -> None:
    """A dot for each seed, the mean and its interval, a panel for each column."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    apart = _apart()
    rows = sorted(gained, key=lambda title: title in apart)
    size = (14, 1.2 + 0.32 * len(rows))
    figure, panels = pyplot.subplots(
        1, len(CELLS) + 1, sharex=True, sharey=True, figsize=size, layout="constrained"
    )
    for column, (panel, title) in enumerate(zip(panels, [*CELLS.values(), MEAN], strict=True)):
        for y, row in enumerate(rows):
            mean, half = mean_and_half(gained[row])
            color = "tab:gray" if row in apart else "tab:blue"
            panel.plot(gained[row][:, column], [y] * len(gained[row]), ".", color=color, alpha=0.4)
            panel.errorbar(mean[column], y, xerr=np.nan_to_num(half[column]), fmt="o", color=color, ms=4)
        panel.axvline(0, color="black", linewidth=0.8)
        panel.set_title(title, fontsize=10)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(rows)), [apart.get(row, row).partition(":")[0] for row in rows])
    panels[0].invert_yaxis()
    figure.supxlabel("points more than the paper's student of the same seed; gray: no equal budget or start")
    figure.savefig(file, dpi=110)


def _apart() -> dict[str, str]:
    """Titles of what is no comparison at equal budget, with the reason."""
    named = {option.title: f"{option.title}: {option.apart}" for option in OPTIONS if option.apart}
    return named | {"2 rounds": "2 rounds: one further training"}


def _head(names: list[str]) -> list[str]:
    return [f"| {' | '.join(names)} |", f"| --- |{' ---: |' * (len(names) - 1)}"]


def _cell(mean: float, half: float, sign: str = "") -> str:
    text = f"{mean:{sign}.1f}" + (f" ±{half:.1f}" if half == half else "")
    return f"**{text}**" if sign and abs(mean) > half else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path, help="folder that the study was run in")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="default: beside this file")
    args = parser.parse_args()
    rows = read(args.work)
    found = scores(rows)
    if BASELINE.title not in found:
        parser.error(f"{args.work}: the paper's student has no results there yet")
    gained = gains(found)
    with open(args.out / "results.csv", "w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    (args.out / "results.md").write_text(markdown(found, gained))
    draw(gained, args.out / "gains.png")
    runs = defaultdict(set)
    for row in rows:
        runs[row["student_seed"]].add(row["option"])
    print("options finished, by seed:", {seed: len(names) for seed, names in sorted(runs.items())})


if __name__ == "__main__":
    main()
