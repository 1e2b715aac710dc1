"""``store import``: artifacts of a tar file, looked at before a byte of them is written."""

import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cf_lightning.errors import StoreError
from cf_lightning.store.artifacts import Store, put
from cf_lightning.store.damage import damaged
from cf_lightning.store.manifest import MANIFEST, parse
from cf_lightning.store.refusals import explained

Members = dict[str, tarfile.TarInfo]  # of one artifact, by their names inside it
NAME = re.compile(r"([A-Za-z0-9_-]+/[A-Za-z0-9_-]+)/(.+)")
END = 1024  # zero bytes that a whole tar file ends with


def import_(store: Store, file: Path, say: Callable[[str], None]) -> tuple[list[str], list[str]]:
    """Publish the artifacts of a tar file that ``export`` wrote.

    Everything is checked first: there is nothing but regular files of artifacts, those of each artifact are
    the ones that its manifest names, in their sizes. Then each artifact is unpacked, its checksums are
    compared, and it appears in one step, under its lock.

    Args:
        store: is made if it is missing.
        file: to read.
        say: is told of waiting for another process.

    Returns:
        The names of the artifacts that are new, and of those that were there before.

    Raises:
        StoreError: anything else is in the file, or it is damaged.
    """
    new, old = [], []
    if not file.is_file():
        raise StoreError(f"{file}: there is no such file")
    try:
        with tarfile.open(file, "r:") as tar:
            artifacts = _members(tar, file)
            files = {name: _files(tar, file, name, inside) for name, inside in artifacts.items()}
            store.test()
            for name, inside in artifacts.items():
                stage, _, key = name.partition("/")
                with store.lock(stage, key, say):
                    if store.path(stage, key).exists():
                        old.append(name)
                    else:
                        with explained(store.root):
                            _publish(store, tar, file, name, inside, files[name])
                        new.append(name)
    except (tarfile.TarError, EOFError) as error:
        raise StoreError(f"{file} is no tar file, or it is damaged ({error})") from None
    return new, old


def _members(tar: tarfile.TarFile, file: Path) -> dict[str, Members]:
    """Of each artifact, in the order of the file."""
    found: dict[str, Members] = {}
    for member in tar.getmembers():
        name = NAME.fullmatch(member.name)
        if not name or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
            raise StoreError(f"{file}: {member.name!r} is no plain file of an artifact; nothing is taken")
        if name[2] in found.setdefault(name[1], {}):
            raise StoreError(f"{file}: {member.name!r} is there twice; nothing is taken")
        found[name[1]][name[2]] = member
    last = max((one.offset_data + -(-one.size // 512) * 512 for one in tar.getmembers()), default=0)
    with open(file, "rb") as stream:
        stream.seek(last)
        rest = stream.read(2**20)
    if len(rest) < END or any(rest):  # tarfile takes a damaged header for the end
        raise StoreError(f"{file} is truncated or damaged at byte {last}; nothing is taken")
    return found


def _files(tar: tarfile.TarFile, file: Path, name: str, inside: Members) -> dict[str, Any]:
    """What the artifact's manifest says of its files, which are those that are there."""
    if MANIFEST not in inside:
        raise StoreError(f"{file}: {name} has no {MANIFEST}; nothing is taken")
    stream = tar.extractfile(inside[MANIFEST])
    assert stream is not None, "it is a regular file"
    text, place = stream.read(), f"{file}: {name}/{MANIFEST}"
    files: dict[str, Any] = parse(text, place, "nothing is taken; export it again")["files"]
    there = {one: member.size for one, member in inside.items() if one != MANIFEST}
    expected = {one: known["bytes"] for one, known in files.items()}
    for one in sorted(there.keys() | expected.keys()):
        if there.get(one) != expected.get(one):
            raise StoreError(
                f"{file}: {name}/{one} has {there.get(one, 'no')} bytes, and {expected.get(one, 'none')} in "
                f"its manifest; nothing is taken"
            )
    return files


def _publish(
    store: Store, tar: tarfile.TarFile, file: Path, name: str, inside: Members, files: dict[str, Any]
) -> None:
    with tempfile.TemporaryDirectory(dir=store.root, prefix=".import-") as folder:
        place = Path(folder) / "artifact"
        for one, member in inside.items():
            stream = tar.extractfile(member)
            assert stream is not None, "it is a regular file"
            (place / one).parent.mkdir(parents=True, exist_ok=True)
            with open(place / one, "wb") as to:
                shutil.copyfileobj(stream, to, 2**20)
        for found, problem in damaged(place, files):
            raise StoreError(f"{file}: {name}/{found.relative_to(place)} {problem}; export it again")
        put(place, store.root / name)
