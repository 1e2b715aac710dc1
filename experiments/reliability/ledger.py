"""What has been tried: a line for each case, and the counts of each kind."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from case import Case, Outcome
from rich.console import Console
from rich.table import Table

from cf_lightning.execution import commit

CASE = ("kind", "case", "lost", "wrong_label", "hangs", "seconds", "commit", "note")
COUNT = ("kind", "injected", "survived", "lost", "wrong_label", "hangs")


class Ledger:
    """``cases.csv`` and ``torture.csv`` in a folder.

    Args:
        folder: made if it is missing; what it holds is continued.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.cases, self.counts = folder / "cases.csv", folder / "torture.csv"
        self.lines: list[dict[str, str]] = []
        if self.cases.exists():
            with open(self.cases, newline="") as file:
                self.lines = list(csv.DictReader(file))
        self.tried = {(line["kind"], line["case"]) for line in self.lines}
        self.commit = commit() or "unknown"
        self.console = Console()

    def has(self, case: Case) -> bool:
        """It was tried before."""
        return (case.kind, case.name) in self.tried

    def add(self, case: Case, outcome: Outcome, seconds: float) -> None:
        """Write a case's line and the counts."""
        told = [outcome.lost, outcome.wrong_label, outcome.hangs, f"{seconds:.1f}", self.commit]
        line = [case.kind, case.name, *map(str, told), " ".join(outcome.note.split())[:300]]
        self.lines.append(dict(zip(CASE, line, strict=True)))
        self.tried.add((case.kind, case.name))
        write(self.cases, CASE, self.lines)
        write(self.counts, COUNT, self.by_kind())
        state = "survived" if outcome.survived else "[red]BROKEN"
        self.console.print(f"{state} {case.kind}: {case.name} ({seconds:.1f} s)", highlight=False)

    def by_kind(self) -> list[dict[str, str]]:
        """The counts of each kind, in the order in which they were first met."""
        counts = []
        for kind in dict.fromkeys(line["kind"] for line in self.lines):
            lines = [line for line in self.lines if line["kind"] == kind]
            sums = {name: sum(int(line[name]) for line in lines) for name in COUNT[3:]}
            survived = sum(not any(int(line[name]) for name in COUNT[3:]) for line in lines)
            counts.append({"kind": kind, "injected": str(len(lines)), "survived": str(survived)})
            counts[-1] |= {name: str(value) for name, value in sums.items()}
        return counts

    def all_survived(self) -> bool:
        """Nothing was lost, mixed up or hung."""
        return all(count["injected"] == count["survived"] for count in self.by_kind())

    def show(self) -> None:
        """The counts as a table, and what is known of each case that broke."""
        table = Table(*COUNT)
        for count in self.by_kind():
            table.add_row(*count.values())
        self.console.print(table)
        for line in self.lines:
            if any(int(line[name]) for name in COUNT[3:]):
                self.console.print(f"{line['kind']}: {line['case']}: {line['note']}", markup=False)


def write(path: Path, columns: Iterable[str], lines: list[dict[str, str]]) -> None:
    """Replace a CSV file in one step."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    draft = path.with_suffix(".new")
    draft.write_text(text.getvalue())
    draft.replace(path)
