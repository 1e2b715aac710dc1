"""Bars of the running stage, on the terminal's last line, in whichever process does the work."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

RUNNING = "CF_LIGHTNING_RUNNING"  # what is running, where somebody looks; a stage's processes inherit it
SHORTEST = 6  # characters of what a bar says of its stage


class Bar(tqdm):  # type: ignore[misc]
    """tqdm's bar on one line of any terminal and of a pipe: a long label gives way to the numbers."""

    monitor_interval = 0  # no thread beside the loader's processes

    @staticmethod
    def format_meter(
        n: float, total: float, elapsed: float, ncols: Any = None, prefix: str = "", **rest: Any
    ) -> str:
        """The line, at most as long as the terminal is wide; ``ncols`` does not matter."""
        width = _width()

        def room() -> int:
            return width + 6 - len(tqdm.format_meter(n, total, elapsed, **rest))  # that has a bar of ten

        if room() < SHORTEST:
            rest["postfix"] = ""
        stage, colon, title = prefix.partition(": ")
        label = stage + colon + _cropped(title, max(room() - len(stage + colon), SHORTEST))
        return str(tqdm.format_meter(n, total, elapsed, width, label, **rest))

    def say(self, text: str) -> None:
        """Show a text in the bar's place until it moves."""
        if not self.disable:
            self.display(_cropped(text, _width()))

    def close(self) -> None:
        """Leave the line to the stage, which goes on without a bar."""
        if not self.disable:
            super().close()
            say_again()


def progress_bar(total: float, unit: str, initial: float = 0, label: str | None = None) -> Bar:
    """A bar of the running stage; silent where nobody looks, and in every process but the first.

    Args:
        total: of the whole stage, in units.
        unit: what is counted, for people: ``images``.
        initial: what an earlier attempt has done of it.
        label: in front of it where no stage is running; such a bar stays when it is done.
    """
    label = os.environ.get(RUNNING, label)
    return Bar(
        total=total,
        initial=initial,
        desc=label,
        unit=f" {unit}",
        unit_scale=True,
        disable=label is None or os.environ.get("RANK", "0") != "0",
        file=sys.stdout,  # the workers' stderr goes to a file
        leave=RUNNING not in os.environ,
        miniters=1,
        smoothing=0,
        bar_format="{desc} {percentage:3.0f}% {bar} {rate_fmt}, {remaining} left{postfix}",
    )


@contextmanager
def of(stage: str) -> Iterator[None]:
    """Say that a stage runs, here and in its processes, until it has ended; log records go above the line."""
    os.environ[RUNNING] = stage
    say_again()
    try:
        with logging_redirect_tqdm():
            yield
    finally:
        clear_line()
        del os.environ[RUNNING]


def say_again() -> None:
    """What is running, where somebody looks."""
    if RUNNING in os.environ:
        _last_line(os.environ[RUNNING])


def clear_line() -> None:
    """Make room for something that stays."""
    if RUNNING in os.environ:
        _last_line("")


def _last_line(text: str) -> None:
    """Replace what stands on the terminal's last line; what comes next is written over it."""
    dim, plain = ("\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "")
    sys.stdout.write(f"\r\033[K{dim}{_cropped(text, _width())}{plain}\r")
    sys.stdout.flush()


def _width() -> int:
    """Columns of the terminal or, in a pipe, those of COLUMNS; in the very last one some terminals break."""
    return shutil.get_terminal_size().columns - 1


def _cropped(text: str, width: int) -> str:
    """Both ends of a text: ``clu..k=64``."""
    if len(text) <= width:
        return text
    end = (width - 2) // 2
    return f"{text[: width - 2 - end]}..{text[len(text) - end :]}"
