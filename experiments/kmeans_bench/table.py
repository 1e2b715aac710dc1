"""A line of the table: what was measured, and which goals that meets."""

from dataclasses import dataclass

from measuring import Bound

HEADER = ("what", "must", "aim", "measured: median (range of rounds)", "met", "ours against theirs")


@dataclass(frozen=True)
class Row:
    """A figure and its two goals; without a figure it was not measured."""

    what: str
    must: Bound
    aim: Bound
    figure: float | None = None
    measured: str = "not measured"
    sides: str = ""

    def cells(self) -> tuple[str, ...]:
        return self.what, str(self.must), str(self.aim), self.measured, self._met(), self.sides

    def _met(self) -> str:
        if self.figure is None:
            return ""
        if self.must.met(self.figure):
            return "aim" if self.aim.met(self.figure) else "must"
        return "**no**"


def markdown(rows: list[Row], facts: list[str]) -> str:
    """A page with the table, and where and when it was taken."""
    lines = [HEADER, ("---",) * len(HEADER), *(row.cells() for row in rows)]
    table = [f"| {' | '.join(cells)} |" for cells in lines]
    head = ["# k-means", "", "Written by `make bench-kmeans`; what each line is: [README.md](README.md).", ""]
    return "\n".join([*head, *table, "", *(f"- {fact}" for fact in facts), ""])
