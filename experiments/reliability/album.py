"""Images that give away any mix-up: each is one colour, and has a twin of that colour somewhere else."""

import os
import random
import shutil
from pathlib import Path

from PIL import Image

LETTERS = "abcxyz019_-äñøž日本語अब العر"
STEP = 48  # between colours


class Album:
    """``root/CLASS/NAME.bmp``; what lies there can be changed at random.

    Args:
        root: made.
        rng: of names, classes and colours.
        pairs: of twins.

    Attributes:
        colours: (R, G, B) of each file, by its path below the root, as an index names it.
    """

    def __init__(self, root: Path, rng: random.Random, pairs: int) -> None:
        self.root, self.rng = root, rng
        self.colours: dict[str, tuple[int, int, int]] = {}
        grid = range(STEP // 2, 256, STEP)
        self._unused = [(r, g, b) for r in grid for g in grid for b in grid]
        rng.shuffle(self._unused)
        for _ in range(pairs):
            self.add()

    def twins(self) -> dict[str, str]:
        """Each file's twin."""
        by_colour: dict[tuple[int, int, int], list[str]] = {}
        for key, colour in self.colours.items():
            by_colour.setdefault(colour, []).append(key)
        return {key: other for one, two in by_colour.values() for key, other in ((one, two), (two, one))}

    def add(self) -> None:
        """Two images of a colour that no other has."""
        colour = self._unused.pop()
        for _ in range(2):
            self._write(self._new_key(), colour)

    def remove(self) -> None:
        """One pair."""
        one = self.rng.choice(sorted(self.colours))
        for key in (one, self.twins()[one]):
            (self.root / key).unlink()
            del self.colours[key]

    def repaint(self) -> None:
        """One pair gets another colour, under its old names; its files grow by a line."""
        one = self.rng.choice(sorted(self.colours))
        colour = self._unused.pop()
        for key in (one, self.twins()[one]):
            height = Image.open(self.root / key).height
            self._write(key, colour, height + 1)

    def rename(self) -> None:
        """One image, in its class."""
        self._move(same_class=True)

    def reclass(self) -> None:
        """One image, to another class."""
        self._move(same_class=False)

    def touch(self) -> None:
        """Every file has another time."""
        for key in self.colours:
            seconds = self.rng.uniform(0, 4e9)
            os.utime(self.root / key, (seconds, seconds))

    def move_away(self) -> None:
        """Copy everything to another place, in another order, and forget the old one."""
        elsewhere = self.root.with_name(f"{self.root.name}x")
        for key in self.rng.sample(sorted(self.colours), len(self.colours)):
            (elsewhere / key).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.root / key, elsewhere / key)
        shutil.rmtree(self.root)
        self.root = elsewhere

    def _move(self, same_class: bool) -> None:
        old = self.rng.choice(sorted(self.colours))
        new = self._new_key()
        while (new.partition("/")[0] == old.partition("/")[0]) != same_class:
            new = self._new_key()
        (self.root / new).parent.mkdir(parents=True, exist_ok=True)
        (self.root / old).rename(self.root / new)
        self.colours[new] = self.colours.pop(old)

    def _new_key(self) -> str:
        name = "".join(self.rng.choices(LETTERS, k=8)).strip()
        return f"class {self.rng.randrange(3)}/{name}.bmp"

    def _write(self, key: str, colour: tuple[int, int, int], height: int = 24) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, height), colour).save(path)
        self.colours[key] = colour
