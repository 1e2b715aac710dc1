"""``store export``: artifacts and all that they were made of, as one tar file."""

import os
import tarfile
from pathlib import Path

from cf_lightning.errors import StoreError
from cf_lightning.runs import Run
from cf_lightning.store.artifacts import Store
from cf_lightning.store.contents import Contents
from cf_lightning.store.damage import verified
from cf_lightning.store.manifest import MANIFEST


def names_of_run(contents: Contents, folder: Path) -> list[str]:
    """All artifacts of a run.

    Raises:
        StoreError: one is not in the store.
    """
    run = Run.read(folder)
    names = list(run.by_key())
    missing = [name for name in names if name not in contents.manifests]
    if missing or not names:
        raise StoreError(
            f"--run {folder}: {len(missing)} of its {len(names)} artifacts are not in {contents.store.root}"
            f"{', such as ' + missing[0] if missing else ''}; its store was {run.store} (--store)"
        )
    return names


def names_with_inputs(contents: Contents, texts: list[str]) -> tuple[list[str], list[str]]:
    """The artifacts that are meant and all that they were made of; and what of it is no longer there."""
    return contents.chain([contents.find(text) for text in texts])


def export(store: Store, names: list[str], file: Path) -> None:
    """Write a tar file, not compressed: of each artifact its manifest and its files, all verified.

    Args:
        store: that has them.
        names: of the artifacts, inputs first.
        file: to write; it appears when it is whole.

    Raises:
        StoreError: it is there already; an artifact is damaged.
    """
    if file.exists():
        raise StoreError(f"{file} is there already; remove it or name another file")
    draft = file.with_name(file.name + ".partial")
    try:
        with open(draft, "wb") as stream:
            with tarfile.open(fileobj=stream, mode="w") as tar:
                for name in names:
                    manifest = verified(store.root / name)
                    for inside in (MANIFEST, *manifest["files"]):
                        _add(tar, store.root / name / inside, f"{name}/{inside}")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, file)
    except OSError as error:
        raise StoreError(f"{file} cannot be written ({error.strerror or error})") from error
    finally:
        draft.unlink(missing_ok=True)


def _add(tar: tarfile.TarFile, file: Path, name: str) -> None:
    """Without what is this machine's: owner and rights."""
    info, found = tarfile.TarInfo(name), file.stat()
    info.size, info.mtime = found.st_size, int(found.st_mtime)
    with open(file, "rb") as stream:
        tar.addfile(info, stream)
