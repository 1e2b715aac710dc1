"""Whether an artifact's files are what its manifest says."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from cf_lightning.errors import StoreError
from cf_lightning.store.checksums import begin, threads
from cf_lightning.store.manifest import MANIFEST, read_manifest, remedy


def damaged(
    folder: Path, files: dict[str, Any], read: Callable[[int], object] | None = None
) -> list[tuple[Path, str]]:
    """The files that are not what a manifest says, each with what is wrong.

    Args:
        folder: of the artifact.
        files: of its manifest, those to look at.
        read: is told of bytes that were read.
    """
    found, begun = [], {}
    with threads() as pool:
        for name, expected in files.items():
            file = folder / name
            if not file.is_file() or file.stat().st_size != expected["bytes"]:
                found.append((file, "is missing or truncated"))
            else:
                begun[name] = begin(pool, file, read)
        for name, sums in begun.items():
            try:
                if [one.result() for one in sums] != files[name]["sha256"]:
                    found.append((folder / name, "was changed after it was made"))
            except OSError as error:
                found.append((folder / name, f"cannot be read ({error.strerror})"))
    return found


def foreign(folder: Path, files: dict[str, Any]) -> list[tuple[Path, str]]:
    """The files that no manifest speaks of."""
    there = sorted(file for file in folder.rglob("*") if file.is_symlink() or not file.is_dir())
    known = {folder / name for name in (*files, MANIFEST)}
    return [(file, "does not belong to the artifact") for file in there if file not in known]


@cache
def verified(folder: Path, names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """The manifest of a finished artifact whose files are what it says; looked at once in a process.

    Args:
        folder: of the artifact.
        names: of the files to look at; all of them without.

    Raises:
        StoreError: a file is missing or changed, or the artifact is not there.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise StoreError(f"{folder} is not there; start the run that made it again")
    files = manifest["files"]
    for name in names or ():
        if name not in files:
            raise StoreError(f"{folder / name} is no file of the artifact; {remedy(folder)}")
    for file, problem in damaged(folder, files if names is None else {name: files[name] for name in names}):
        raise StoreError(f"{file} {problem}; {remedy(folder)}")
    return manifest
