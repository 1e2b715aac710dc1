"""Where the time goes: what ``bench.py --profile PART`` tells of each side, by function and by operator.

The processes that a side starts inherit the wish, and where to tell: a file that an environment variable
names.
"""

import cProfile
import inspect
import io
import os
import pstats
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

VARIABLE, LINES = "BENCH_PROFILE", 12
Figure = TypeVar("Figure")


def wanted() -> bool:
    return VARIABLE in os.environ


def profiled(side: Callable[[], Figure]) -> Figure:
    """Run a side under both profilers."""
    functions, table = cProfile.Profile(), io.StringIO()
    with operators(_name(side)):
        figure = functions.runcall(side)
    pstats.Stats(functions, stream=table).sort_stats("tottime").print_stats(LINES)
    _tell(f"{_name(side)}, by function", table.getvalue().strip())
    return figure


@contextmanager
def operators(name: str, by: str | None = None) -> Iterator[None]:
    """Tell what torch's operators take within, if that is wanted; ``by`` is the column to sort by."""
    if not wanted():
        yield
        return
    import torch

    with torch.profiler.profile(profile_memory=True) as profile:
        yield
    by = by or f"self_{'device' if torch.cuda.is_available() else 'cpu'}_time_total"
    events: Any = profile.key_averages()
    _tell(f"{name}, by operator", events.table(sort_by=by, row_limit=LINES, max_name_column_width=50))


def _tell(title: str, text: str) -> None:
    with open(os.environ[VARIABLE], "a") as file:
        file.write(f"\n== {title}\n{text}\n")


def _name(side: Callable[[], object]) -> str:
    """A lambda's is its source."""
    if getattr(side, "__name__", "") == "<lambda>":
        return " ".join(inspect.getsource(side).split()).rstrip(",")
    return getattr(side, "__qualname__", repr(side))
