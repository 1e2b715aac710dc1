"""One attempt to break a run, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """What went wrong; nothing of it may.

    Attributes:
        lost: something finished is gone, something unfinished looks complete, a result differs from that of
            an undisturbed run, or bad input got no message of its own.
        wrong_label: samples that came with the label, the features or the pseudo label of another.
        hangs: it did not end in its time, or left a process or a lock behind.
        note: what was seen, one line.
    """

    lost: int = 0
    wrong_label: int = 0
    hangs: int = 0
    note: str = ""

    @property
    def survived(self) -> bool:
        """Nothing went wrong."""
        return not (self.lost or self.wrong_label or self.hangs)


@dataclass(frozen=True)
class Case:
    """One thing to try.

    Attributes:
        kind: what cases are counted together.
        name: unique within the kind, and the same whenever the list is made.
        attempt: is given an empty folder; an exception counts as lost.
    """

    kind: str
    name: str
    attempt: Callable[[Path], Outcome]
