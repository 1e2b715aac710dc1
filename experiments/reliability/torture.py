"""``make torture``: every way to break a run that we know, tried, and what came of it.

Each case has a line in ``cases.csv`` as soon as it ends; started again, it goes on with the cases that have
none. ``torture.csv`` and the table count them by kind. It ends with an error if anything was lost, mixed up
or hung. To try a case again, remove its line.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path

import bit_flips
import configs
import faults
import hostile
import kills
import labels
import media
from case import Case, Outcome
from ledger import Ledger

KINDS: dict[str, Callable[[], Iterator[Case]]] = {
    "config": configs.cases,
    "media": media.cases,
    "hostile": hostile.cases,
    "labels": labels.cases,
    "bit flips": bit_flips.cases,
    "kills": kills.cases,
    "faults": faults.cases,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; default all")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no case after so many")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the cases")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the two files")
    options = parser.parse_args()
    if unknown := set(options.kinds) - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")

    end = time.monotonic() + 60 * options.minutes
    ledger = Ledger(options.out)
    for case in in_turn(options.kinds or list(KINDS), options.seed):
        if ledger.has(case):
            continue
        if time.monotonic() > end:
            break
        start = time.monotonic()
        ledger.add(case, tried(case), time.monotonic() - start)
    ledger.show()
    if not ledger.all_survived():
        sys.exit("not everything survived")


def in_turn(kinds: list[str], seed: int) -> Iterator[Case]:
    """One case of each kind after the other, each kind in an order of its own: a sample sees all kinds."""
    lists = []
    for kind in kinds:
        cases = list(KINDS[kind]())
        random.Random(seed).shuffle(cases)
        lists.append(cases)
    return (case for row in zip_longest(*lists) for case in row if case)


def tried(case: Case) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="torture_", ignore_cleanup_errors=True) as folder:
        try:
            return case.attempt(Path(folder))
        except Exception as error:
            return Outcome(lost=1, note=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
