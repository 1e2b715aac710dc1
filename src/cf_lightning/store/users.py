"""The runs that need what is in a store."""

import itertools
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cf_lightning.errors import DataError
from cf_lightning.runs import FILE, Run
from cf_lightning.store.artifacts import Store
from cf_lightning.store.uses import known


@dataclass(frozen=True)
class User:
    """A run.

    Attributes:
        folder: of the run.
        run: its record.
        going_on: it holds the store.
        changed: its record, in seconds since the epoch.
    """

    folder: Path
    run: Run
    going_on: bool
    changed: float

    @property
    def artifacts(self) -> set[str]:
        """``<stage>/<key>`` of all that it is made of, and of what its command names by a path."""
        places = [override.partition("=")[2].split("/") for override in self.run.overrides]
        named = {f"{stage}/{key}" for parts in places for stage, key in itertools.pairwise(parts)}
        return named | self.run.by_key().keys()

    def counts(self, days: float) -> bool:
        """It is done, going on, or has ended without success in the last days and may be started again."""
        return self.run.status == "done" or self.going_on or time.time() - self.changed < days * 86400

    @property
    def is_silent(self) -> bool:
        """It has begun and not said yet what it needs."""
        return self.run.status == "running" and not self.run.steps


def users(store: Store, folders: Iterable[Path]) -> tuple[list[User], list[str]]:
    """The runs that a store knows, and those below some folders; a run may be of another store.

    Args:
        store: that they may have used.
        folders: to look into; those that are not there are passed over.

    Returns:
        The runs, and a line for each record that cannot be read.
    """
    places = {folder.resolve(): going_on for folder, going_on in known(store.root).items()}
    for folder in folders:
        for place in _run_folders(folder.expanduser()):
            places.setdefault(place.resolve(), False)
    found, problems = [], []
    for place, going_on in places.items():
        if not (place / FILE).exists():
            if going_on:
                problems.append(f"{place / FILE} is gone, and the run is going on")
            continue  # the run was removed, and needs nothing any more
        try:
            run, changed = Run.read(place), (place / FILE).stat().st_mtime
        except DataError as error:
            problems.append(str(error))
        else:
            found.append(User(place, run, going_on, changed))
    return found, problems


def _run_folders(folder: Path) -> Iterator[Path]:
    """Those that have a record; what lies in a run's folder is the run's own."""
    for place, inside, files in os.walk(folder):
        if FILE in files:
            inside.clear()
            yield Path(place)
        inside.sort()
