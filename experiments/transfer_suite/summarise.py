"""The tables of the transfer suite, from the runs' own results: results.csv and results.md.

python experiments/transfer_suite/summarise.py FOLDER
"""

import csv
import sys
from dataclasses import asdict
from pathlib import Path

from cf_lightning.results import Result, cell, gain, is_shown, panel_of, read_results

HERE = Path(__file__).parent
NAMES = {"chain": {}, "mobilenet_v2": {"teacher": "MobileNetV2"}}
WHO = ("random", "teacher", "student", "MobileNetV2")
COLUMNS = [
    "target",
    "protocol",
    "layer",
    "metric",
    "contestant",
    "value",
    "ci_low",
    "ci_high",
    "n_test",
    "seed",
    "details",
]


def main(folder: Path) -> None:
    found: dict[tuple[str, ...], dict[str, Result]] = {}
    for run, names in NAMES.items():
        for result in read_results(folder / "suite" / run):
            name = names.get(result.contestant, result.contestant)
            found.setdefault(panel_of(result), {})[name] = result
    with open(HERE / "results.csv", "w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for results in found.values():
            for name, result in results.items():
                row = {**asdict(result), "contestant": name}
                table.writerow({key: cell(row[key]) for key in COLUMNS})
    lines = [f"| target | protocol | {' | '.join(WHO)} | student - teacher |", "|---|---|" + "---:|" * 5]
    for panel, results in found.items():
        if not is_shown(panel[3]):
            continue
        cells = [_percent(results[name]) if name in results else "" for name in WHO]
        lines.append(f"| {panel[0]} | {panel[1]} {panel[3]} | {' | '.join(cells)} | {_gain(results)} |")
    (HERE / "results.md").write_text("\n".join(["# The transfer suite", "", *lines]) + "\n")
    print("\n".join(lines))


def _percent(result: Result) -> str:
    return f"{100 * result.value:.1f} ±{50 * (result.ci_high - result.ci_low):.1f}"


def _gain(results: dict[str, Result]) -> str:
    if not {"teacher", "student"} <= set(results):
        return ""
    difference, low, high = gain(results["teacher"], results["student"])
    return f"{'**' if low > 0 or high < 0 else ''}{100 * difference:+.1f} ±{50 * (high - low):.1f}" + (
        "**" if low > 0 or high < 0 else ""
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
