"""Two sides measured in turn, and what the table says of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Literal

Side = Callable[[], float]
Sign = Literal["<=", ">="]


@dataclass(frozen=True)
class Row:
    """A line of the table; ``met`` is ``None`` where nothing was measured."""

    what: str
    result: str
    target: str
    met: bool | None
    sides: str = ""

    def cells(self) -> tuple[str, ...]:
        return (
            self.what,
            self.result,
            self.target,
            {True: "yes", False: "**no**", None: ""}[self.met],
            self.sides,
        )


def in_turn(*sides: Side, rounds: int = 5) -> list[list[float]]:
    """For each side its figure of every round, measured A B A B ... after one warm-up of each."""
    for side in sides:
        side()
    figures = [[side() for side in sides] for _ in range(rounds)]
    return [list(side) for side in zip(*figures, strict=True)]


def ratio(what: str, ours: list[float], theirs: list[float], sign: Sign, bound: float, unit: str) -> Row:
    """Ours over theirs, round by round: the median decides, the range says how noisy the machine was."""
    ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
    sides = f"{median(ours):.3g} against {median(theirs):.3g} {unit}"
    result = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return bounded(what, median(ratios), result, sign, bound, sides)


def bounded(
    what: str, value: float, result: str, sign: Sign, bound: float, sides: str = "", unit: str = ""
) -> Row:
    """A value against its bound; ``result`` is how it is written."""
    return Row(
        what, result, f"{sign} {bound:g}{unit}", value <= bound if sign == "<=" else value >= bound, sides
    )


def seconds(act: Callable[[], object]) -> float:
    """What a call takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
