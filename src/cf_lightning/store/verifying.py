"""``store verify``: every byte compared with the manifests."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock

from cf_lightning.errors import StoreError
from cf_lightning.progress import Bar, progress_bar
from cf_lightning.store.artifacts import Store
from cf_lightning.store.contents import Contents
from cf_lightning.store.damage import damaged, foreign
from cf_lightning.store.manifest import remedy


def verify(store: Store, names: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Read all files of some artifacts, or of all.

    Args:
        store: to read.
        names: of artifacts, or the beginnings of their keys; none for all.

    Yields:
        The name of an artifact and a line for each manifest that is damaged and each file that is missing,
        damaged, or not the artifact's.

    Raises:
        StoreError: there is no such artifact.
    """
    contents = Contents(store)
    chosen = [contents.find(name) for name in names] or [*contents.damaged, *contents.manifests]
    whole = [name for name in chosen if name in contents.manifests]
    yield from ((name, contents.damaged[name]) for name in chosen if name in contents.damaged)
    label = "verify" if sys.stdout.isatty() else None
    lock = Lock()
    with progress_bar(sum(map(contents.size, whole)), "B", label=label) as bar:

        def read(count: int) -> None:
            with lock:
                bar.update(count)

        for name in whole:
            folder, files = store.root / name, contents.manifests[name]["files"]
            for file, problem in [*damaged(folder, files, read), *foreign(folder, files)]:
                yield name, f"{file} {problem}"


def show_damage(store: Store, names: Sequence[str]) -> None:
    """Print what ``verify`` finds.

    Raises:
        StoreError: there is something.
    """
    found: dict[str, Path] = {}
    for name, problem in verify(store, names):
        Bar.write(problem)
        found[name] = store.root / name
    if found:
        raise StoreError(f"{len(found)} artifacts are damaged: {remedy(next(iter(found.values())))}")
    print("nothing is missing, changed or added")
