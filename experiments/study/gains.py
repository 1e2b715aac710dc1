"""The runs of a study as every number, a table and a plot; it may be called while they go on."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t

COPIED = ("contestant", "target", "protocol", "layer", "metric", "value", "ci_low", "ci_high", "n_test", "k")
KEYS = ("pretrain_key", "extract_key", "cluster_key", "clusterfit_key", "transfer_key")
METRICS = ("top1", "map")

Line = dict[str, str]
Name = tuple[str, str]  # group, contestant
Scores = dict[Name, dict[int, np.ndarray]]  # seed -> (columns,) percent, NaN where it was not measured


@dataclass(frozen=True)
class Study:
    """What is compared with what.

    Attributes:
        groups: a teacher and all that is compared with it: the group's name and its settings.
        columns: of the tables: (target, protocol, layer) and their titles.
    """

    groups: dict[str, tuple[str, ...]]
    columns: dict[tuple[str, str, str], str]

    def lines(self, work: Path) -> list[Line]:
        """Every number of every finished run."""
        found = []
        for setting in (setting for settings in self.groups.values() for setting in settings):
            for file in sorted((work / "runs" / setting).glob("*/results.csv")):
                with open(file, newline="") as text:
                    found += [
                        {"setting": setting, "seed": file.parent.name}
                        | {name: row[name] for name in (*COPIED, *KEYS)}
                        for row in csv.DictReader(text)
                    ]
        return found

    def scores(self, lines: list[Line]) -> Scores:
        """Percent of every contestant and seed."""
        group_of = {setting: group for group, settings in self.groups.items() for setting in settings}
        columns, found = list(self.columns), Scores()
        for line in lines:
            column = (line["target"], line["protocol"], line["layer"])
            if line["metric"] not in METRICS or column not in columns:
                continue
            contestant = line["contestant"]
            if contestant == "student":
                contestant = f"student, k = {line['k']}"
            seeds = found.setdefault((group_of[line["setting"]], contestant), {})
            values = seeds.setdefault(int(line["seed"]), np.full(len(columns), np.nan))
            values[columns.index(column)] = 100 * float(line["value"])
        order = list(self.groups)
        return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))

    def write(self, work: Path, folder: Path) -> None:
        """``results.csv``, ``results.md`` and ``gains.png``, as far as there are runs."""
        lines = self.lines(work)
        if not lines:
            return
        with open(folder / "results.csv", "w", newline="") as file:
            table = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(lines)
        found = self.scores(lines)
        gained = gains(found)
        titles = list(self.columns.values())
        text = ["Written by the study; what it is: [README.md](README.md).", ""]
        text += ["## Gain over the teacher of the same seed, points", "", *_table(gained, titles, "+")]
        text += ["", "Bold: the 95 % interval leaves zero out.", ""]
        text += ["## Percent", "", *_table(found, titles, "")]
        text += ["", "Mean ± half the 95 % interval (Student's t) over the seeds.", ""]
        (folder / "results.md").write_text("\n".join(text))
        if gained:
            _draw(gained, titles, folder / "gains.png")


def mean_and_half(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over (seeds, columns): mean, and half the 95 % interval of Student's t; NaN from a single seed."""
    n = len(values)
    if n == 1:
        return values[0], np.full(values.shape[1], np.nan)
    return values.mean(0), t.ppf(0.975, n - 1) * values.std(0, ddof=1) / n**0.5


def gains(found: Scores) -> Scores:
    """Points more than the teacher of the same group and seed."""
    gained: Scores = {}
    for (group, contestant), seeds in found.items():
        teacher = found.get((group, "teacher"), {})
        both = {seed: seeds[seed] - teacher[seed] for seed in sorted(seeds) if seed in teacher}
        if both and contestant not in ("teacher", "random"):
            gained[group, contestant] = both
    return gained


def _table(found: Scores, titles: list[str], sign: str) -> list[str]:
    lines = [f"| | | seeds | {' | '.join(titles)} |", f"| --- | --- | ---: |{' ---: |' * len(titles)}"]
    for (group, contestant), seeds in found.items():
        mean, half = mean_and_half(np.array(list(seeds.values())))
        cells = [_cell(m, h, sign) for m, h in zip(mean, half, strict=True)]
        lines.append(f"| {group} | {contestant} | {len(seeds)} | {' | '.join(cells)} |")
    return lines


def _cell(mean: float, half: float, sign: str) -> str:
    if np.isnan(mean):
        return ""
    text = f"{mean:{sign}.1f}" + ("" if np.isnan(half) else f" ±{half:.1f}")
    return f"**{text}**" if sign and abs(mean) > half else text


def _draw(gained: Scores, titles: list[str], file: Path) -> None:
    """A dot for each seed, the mean and its interval, a panel for each column."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows, groups = list(gained), list(dict.fromkeys(group for group, _ in gained))
    size = (3 + 2.4 * len(titles), 1.4 + 0.34 * len(rows))
    figure, panels = pyplot.subplots(
        1, len(titles), sharex=True, sharey=True, figsize=size, layout="constrained", squeeze=False
    )
    for column, (panel, title) in enumerate(zip(panels[0], titles, strict=True)):
        for y, row in enumerate(rows):
            values, color = np.array(list(gained[row].values())), f"C{groups.index(row[0])}"
            mean, half = mean_and_half(values)
            panel.plot(values[:, column], [y] * len(values), ".", color=color, alpha=0.4)
            panel.errorbar(mean[column], y, xerr=np.nan_to_num(half[column]), fmt="o", color=color, ms=4)
        panel.axvline(0, color="black", linewidth=0.8)
        panel.set_title(title, fontsize=10)
        panel.grid(axis="x", alpha=0.3)
    panels[0][0].set_yticks(range(len(rows)), [f"{group}: {contestant}" for group, contestant in rows])
    panels[0][0].invert_yaxis()
    figure.supxlabel("points more than the teacher of the same seed; mean and 95 % interval over seeds")
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
