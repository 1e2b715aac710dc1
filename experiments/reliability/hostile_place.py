"""What every hostile case begins with: data, something outside of it, and an eye on what is opened."""

import io
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from case import Outcome
from PIL import Image

from cf_lightning.errors import CONTROLS, UserError

LONGEST = 1200  # letters of a message that a person still reads


@dataclass(frozen=True)
class Place:
    """Where an attempt takes place.

    Attributes:
        root: of the data; empty.
        outside: a folder beside it with ``secret.png`` and ``secret.tar``; nothing may open what lies there.
        canary: a file that is there if something was executed.
    """

    root: Path
    outside: Path
    canary: Path

    @classmethod
    def made(cls, folder: Path) -> "Place":
        place = cls(folder / "root", folder / "outside", folder / "canary")
        place.root.mkdir(parents=True)
        place.outside.mkdir()
        (place.outside / "secret.png").write_bytes(picture())
        return place

    @property
    def command(self) -> str:
        """What an attacker has a shell do."""
        return f"touch {shlex.quote(str(self.canary))}"

    def evil(self) -> "Evil":
        """An object whose unpickling executes that."""
        return Evil(self.command)


class Evil:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def picture(grey: int = 90) -> bytes:
    """A PNG file."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (grey,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def refused(act: Callable[[Place], object], *words: str) -> Callable[[Path], Outcome]:
    """The attempt that ends in one message with these words, with nothing executed or opened outside."""

    def attempt(folder: Path) -> Outcome:
        place = Place.made(folder)
        with watching() as opened:
            said, taken = _said(act, place)
        problems = [f"taken: {said}"] if taken else []
        problems += [f"no {word!r}" for word in words if word not in said]
        problems += ["control characters"] if CONTROLS.search(said) else []
        problems += [f"{len(said)} letters"] if len(said) > LONGEST else []
        problems += harm(place, opened)
        return Outcome(lost=int(bool(problems)), note="; ".join([*problems, said]))

    return attempt


def harm(place: Place, opened: list[str]) -> list[str]:
    """What was executed or opened that must not be."""
    outside = place.outside.resolve()
    found = [f"opened {path}" for path in opened if Path(os.path.realpath(path)).is_relative_to(outside)]
    return found + (["executed"] if place.canary.exists() else [])


def _said(act: Callable[[Place], object], place: Place) -> tuple[str, bool]:
    """The message, or what came instead of one."""
    try:
        return repr(act(place)), True
    except UserError as error:
        return str(error), False


_WATCHED: list[list[str]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _WATCHED and event == "open" and isinstance(arguments[0], str | bytes):
        _WATCHED[-1].append(os.fsdecode(arguments[0]))


sys.addaudithook(_hear)  # for good: it cannot be taken away


@contextmanager
def watching() -> Iterator[list[str]]:
    """The paths that Python opens meanwhile."""
    _WATCHED.append([])
    try:
        yield _WATCHED[-1]
    finally:
        _WATCHED.pop()
