"""``store gc``: what no run needs any more goes."""

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from cf_lightning.errors import StoreError
from cf_lightning.store.artifacts import Store
from cf_lightning.store.contents import Contents
from cf_lightning.store.leftovers import Leftover, idle, leftovers, measured
from cf_lightning.store.listing import ago, mib, plain_table, short
from cf_lightning.store.refusals import explained
from cf_lightning.store.users import User, users
from cf_lightning.store.uses import forget, known, removing

DAY = 86400  # seconds


@dataclass(frozen=True)
class Waste:
    """What may go.

    Attributes:
        folders: finished artifacts that no run needs; whatever was begun and nobody goes on with.
        kept: a line on the rest.
    """

    folders: list[Leftover]
    kept: str


def clean(store: Store, places: list[Path], days: float, console: Console, dry_run: bool, yes: bool) -> None:
    """Show what no run needs, ask, and remove it.

    Args:
        store: to clean.
        places: below which there may be runs that the store does not know.
        days: what was changed in so many last days stays, and so does all that a run needs that has ended
            in them without success.
        console: to print on.
        dry_run: only show it.
        yes: do not ask.

    Raises:
        StoreError: it is not known what the runs need; nobody can be asked.
    """
    found = find_waste(store, places, days)
    titles = {name: one.get("title", "") for name, one in Contents(store).manifests.items()}
    table = plain_table("to be removed", "what", "size >", "changed >")
    for one in found.folders:
        if "." in one.name:
            table.add_row(one.name, "was begun and not finished", mib(one.bytes), ago(one.changed))
        else:
            what = escape(titles.get(one.name, "damaged"))
            table.add_row(short(one.name), what, mib(one.bytes), ago(one.changed))
    if found.folders:
        console.print(table)
    whole = mib(sum(one.bytes for one in found.folders))
    console.print(f"{len(found.folders)} folders, {whole}; {found.kept}", highlight=False)
    if not found.folders or dry_run or not (yes or _agreed()):
        return
    gone = remove(store, found.folders, places, days)
    console.print(f"removed {len(gone)} of them, {mib(sum(one.bytes for one in gone))}", highlight=False)


def find_waste(store: Store, places: list[Path], days: float) -> Waste:
    """What no run needs that is done, goes on, or has ended without success in the last days."""
    runs, problems = users(store, places)
    counting = [user for user in runs if user.counts(days)]
    problems += [
        f"the run in {user.folder} has begun and not said yet what it needs: try again soon or, if it was "
        "killed, start it again or remove its folder"
        for user in counting
        if user.is_silent and (user.going_on or Path(user.run.store).resolve() == store.root.resolve())
    ]
    if problems:
        raise StoreError("\n".join(["nothing is removed, for it is not known what is needed:", *problems]))
    names = [f"{stage}/{key}" for stage, key in store.finished()]
    needed = _needs(counting) & set(names)
    if names and not needed:
        raise StoreError(
            f"nothing is removed, for all of {store.root} would go: of {len(runs)} runs that it knows or "
            f"that lie in {', '.join(map(str, places))} none needs anything in it; name the folders of your "
            "runs with --runs, or remove the store yourself"
        )
    unneeded = [store.root / name for name in names if name not in needed]
    continued = _needs([user for user in counting if user.run.status != "done"])
    begun = [one for one in leftovers(store) if not one.key or "/".join(one.key) not in continued]
    every = [*(Leftover(path, "/".join(path.parts[-2:]), *measured(path)) for path in unneeded), *begun]
    old = [one for one in every if time.time() - one.changed >= DAY * (days if one.key else max(days, 1))]
    kept = f"{len(needed)} artifacts stay, for one of {len(counting)} runs needs them"
    if young := len(every) - len(old):
        kept += f"; {young} folders that none needs stay, for they were changed in the last {days:g} days"
    return Waste(old, kept)


def remove(store: Store, folders: list[Leftover], places: list[Path], days: float) -> list[Leftover]:
    """Remove folders that are still not needed, each in one step as far as anybody else can see.

    Returns:
        Those that were removed: not what a run has come to need or to work on meanwhile.
    """
    gone: list[Leftover] = []
    with (
        explained(store.root),
        tempfile.TemporaryDirectory(dir=store.root, prefix=".removed-") as bin_,
        removing(store.root),  # ends first: no run waits for the deleting
    ):
        still = {one.path for one in find_waste(store, places, days).folders}
        for one in folders:
            if one.path in still and _moved(store, one, Path(bin_) / str(len(gone))):
                gone.append(one)
        for run, going_on in known(store.root).items():
            if not (going_on or run.exists()):
                forget(store.root, run)
    return gone


def _moved(store: Store, one: Leftover, to: Path) -> bool:
    """Unless somebody works on it."""
    if one.key is None:
        os.replace(one.path, to)
        return True
    with idle(store, *one.key) as is_idle:
        if is_idle:
            os.replace(one.path, to)
            one.path.with_suffix(".ranks").unlink(missing_ok=True)
    return is_idle


def _needs(runs: list[User]) -> set[str]:
    return {name for user in runs for name in user.artifacts}


def _agreed() -> bool:
    """Whether a person says so."""
    if not sys.stdin.isatty():
        raise StoreError("nothing is removed, for nobody can be asked: add --yes")
    return input("remove all of this? [y/N] ").strip().lower() in ("y", "yes")
