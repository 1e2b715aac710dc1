"""The table: ``results.csv``, one line for each figure, and ``results.md``, which is made from it.

Both are written anew after each figure. A part that is measured again replaces its own lines and no others,
so that each line says when and where it was taken.
"""

import csv
import datetime
import os
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from machine import hardware, software
from measuring import Row

CSV, MARKDOWN = "results.csv", "results.md"
COLUMNS = (
    "part",
    "command",
    "what",
    "median",
    "min",
    "max",
    "rounds",
    "unit",
    "target",
    "met",
    "ours",
    "theirs",
    "sides_unit",
    "note",
    "seconds",  # that it took, both sides and what had to be made for them
    "date",
    "machine",
    "versions",
)
HEADER = ("command", "what", "median (range of rounds)", "target", "met", "ours against theirs", "measured")
HEAD = """\
# Bench

Written by `make bench`, as [results.csv](results.csv) is; `.venv/bin/python experiments/bench/bench.py PART`
measures one part anew. What each line is, and why some miss their target: [README.md](README.md).
"""

Line = dict[str, str]


class Results:
    """The lines so far, those of earlier runs included.

    Args:
        folder: of both files.
        parts: in the order of the table; lines of other parts are dropped.
    """

    def __init__(self, folder: Path, parts: Iterable[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.lines: dict[str, dict[str, Line]] = {part: {} for part in parts}
        if (folder / CSV).exists():
            with open(folder / CSV, newline="") as file:
                for line in csv.DictReader(file):
                    if line["part"] in self.lines:
                        self.lines[line["part"]][line["what"]] = line

    def measure(self, part: str, rows: Iterable[Row]) -> bool:
        """Take in what a part measures; False when it failed, and then its older lines stay, too."""
        measured, lines, start = {}, self.lines[part], time.monotonic()
        try:
            for row in rows:
                now = time.monotonic()
                measured[row.what] = self._put(part, row, now - start)
                start = now
        except Exception as error:
            traceback.print_exc()
            why = (str(error).splitlines() or [""])[0].replace("|", "/")
            failed = Row(f"What is missing of {part}", note=f"failed: {type(error).__name__}: {why}")
            self._put(part, failed, time.monotonic() - start)
            return False
        lines.clear()
        lines.update(measured)
        self.write()
        return True

    def _put(self, part: str, row: Row, seconds: float) -> Line:
        line = self.lines[part][row.what] = record(part, row, seconds)
        print(" | ".join(cells(line)), flush=True)
        self.write()
        return line

    def write(self) -> None:
        """Replace both files."""
        lines = [line for of_part in self.lines.values() for line in of_part.values()]
        temporary = self.folder / f".{CSV}"
        with open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)
        os.replace(temporary, self.folder / CSV)
        (self.folder / MARKDOWN).write_text(page(lines))


def record(part: str, row: Row, seconds: float) -> Line:
    """The line of a figure that has just been measured here."""
    figures = row.figures
    numbers = (median(figures), min(figures), max(figures)) if figures else ()
    line = dict.fromkeys(COLUMNS, "")
    line.update(
        zip(("median", "min", "max"), (f"{number:.{row.digits}f}" for number in numbers), strict=False)
    )
    if figures and row.bound:
        line.update(target=str(row.bound), met="yes" if row.bound.met(median(figures)) else "no")
    sides = {"ours": row.ours, "theirs": row.theirs}
    line.update({name: f"{side:.4g}" for name, side in sides.items() if side is not None})
    return line | {
        "part": part,
        "command": f".venv/bin/python experiments/bench/bench.py {part}",
        "what": row.what,
        "rounds": str(len(figures)),
        "unit": row.unit,
        "sides_unit": row.sides_unit,
        "note": row.note,
        "seconds": f"{seconds:.0f}",
        "date": str(datetime.date.today()),
        "machine": hardware(),
        "versions": software(),
    }


def cells(line: Line) -> list[str]:
    """What people are shown of a line, without where it was measured."""
    result, notes = line["note"] or "not measured", []
    if line["median"]:
        result = f"{line['median']} {line['unit']}".strip()
        if line["rounds"] != "1":
            result += f" ({line['min']} to {line['max']})"
        if line["theirs"]:
            notes.append(f"{line['ours']} against {line['theirs']} {line['sides_unit']}".strip())
        if line["note"]:
            notes.append(line["note"])
    met = "**no**" if line["met"] == "no" else line["met"]
    return [f"`bench.py {line['part']}`", line["what"], result, line["target"], met, "; ".join(notes)]


def page(lines: list[Line]) -> str:
    """The table for people; machines are notes below it."""
    places: list[str] = []
    table = [HEADER, ("---",) * len(HEADER)]
    minutes: dict[str, float] = {}
    for line in lines:
        place = f"{line['machine']}; {line['versions']}"
        if place not in places:
            places.append(place)
        table.append((*cells(line), f"{line['date']}, [{places.index(place) + 1}]"))
        if line["seconds"]:
            minutes[line["part"]] = minutes.get(line["part"], 0) + float(line["seconds"]) / 60
    taken = ", ".join(f"{part} {of_part:.1f}" for part, of_part in minutes.items())
    return "\n".join(
        [
            HEAD,
            *(f"| {' | '.join(row)} |" for row in table),
            "",
            *(f"- [{number}] {place}" for number, place in enumerate(places, 1)),
            *([f"- minutes: {taken}; together {sum(minutes.values()):.1f}"] if minutes else []),
            "",
        ]
    )
