"""Two sides measured in turn, and what the table says of them."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal, TypeVar

import profiling

Side = Callable[[], float]
Figure = TypeVar("Figure")  # of a round: a number, or several by name


@dataclass(frozen=True)
class Bound:
    """What a figure has to reach."""

    sign: Literal["<=", ">="]
    value: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.sign} {self.value:g}{self.unit}"

    def met(self, figure: float) -> bool:
        return figure <= self.value if self.sign == "<=" else figure >= self.value


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what: is measured.
        figures: of each round; none where it was not measured.
        bound: what their median has to reach.
        unit: of the figures; without one they are ratios.
        ours: median of our side.
        theirs: median of the other.
        sides_unit: of both.
        note: what else there is to say; where there are no figures, why.
        digits: of the figures, after the point.
    """

    what: str
    figures: Sequence[float] = ()
    bound: Bound | None = None
    unit: str = ""
    ours: float | None = None
    theirs: float | None = None
    sides_unit: str = ""
    note: str = ""
    digits: int = 2


def in_turn(*sides: Callable[[], Figure], rounds: int = 5, warm_up: bool = True) -> list[list[Figure]]:
    """For each side its figure of every round, measured A B A B ... after one warm-up of each."""
    if warm_up:
        for side in sides:
            side()
    if profiling.wanted():
        return [[profiling.profiled(side)] for side in sides]
    figures = [[side() for side in sides] for _ in range(rounds)]
    return [list(side) for side in zip(*figures, strict=True)]


def ratio(
    what: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    bound: Bound | None,
    unit: str,
    note: str = "",
    digits: int = 2,
) -> Row:
    """Ours over theirs, round by round: the median decides, the range says how noisy the machine was."""
    ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
    return Row(what, ratios, bound, "", median(ours), median(theirs), unit, note, digits)


def middle(figures: list[float], unit: str = "") -> str:
    """Median and range."""
    return f"{median(figures):.2f}{unit} ({min(figures):.2f} to {max(figures):.2f})"


def seconds(act: Callable[[], object]) -> float:
    """What a call takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def growth(*command: str) -> int:
    """Bytes of anonymous memory at a process's peak, beyond what it had when it printed that it is warm."""
    before, peak = watched(*command)
    return peak - before


def watched(*command: str) -> tuple[int, int]:
    """Bytes of anonymous memory of a process when it has printed that it is warm, and at its later peak."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline() not in ("warm\n", ""):
            pass
        before = peak = in_memory(process.pid)
        while process.poll() is None:
            peak = max(peak, in_memory(process.pid))
            time.sleep(0.002)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return before, peak


def in_memory(pid: int, what: str = "RssAnon") -> int:
    """Bytes of ``what``, as ``VmHWM`` for the most so far; 0 of a process that has just ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    return 0
