"""Data sets that lead out of their root, have no end, or say more than is there."""

import csv
import io
import json
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from case import Case
from hostile_place import Place, picture, refused

from cf_lightning.data.folder import FolderImages
from cf_lightning.data.manifest import ManifestImages
from cf_lightning.data.published.inaturalist2018 import INaturalist2018
from cf_lightning.data.shards import ShardImages

BLOCK = tarfile.BLOCKSIZE
# how a path leads out, and what the message says of it; the last ones name no file that is there
PATHS = {
    "parent": ("../outside/secret.png", "stay below it"),
    "parent within": ("a/../../outside/secret.png", "stay below it"),
    "absolute": ("{outside}/secret.png", "stay below it"),
    "tar of the parent": ("../outside/secret.tar/secret.png", "stay below it"),
    "out of a tar": ("good.tar/../../outside/secret.png", "stay below it"),
    "null byte": ("good.png\0../outside/secret.png", r"good.png\x00"),
    "line break": ("good.png\n../outside/secret.png", r"good.png\n"),
    "escape": ("\x1b[31mgood.png", r"\x1b[31m"),
    "percent": ("..%2foutside%2fsecret.png", "are not there"),
    "backslashes": ("..\\outside\\secret.png", "are not there"),
    "home": ("~/secret.png", "are not there"),
    "shell": ("$(touch canary).png", "are not there"),
    "url": ("file:///outside/secret.png", "are not there"),
}
Write = Callable[[Place], None]


def cases(kind: str) -> Iterator[Case]:
    for name, (path, word) in PATHS.items():
        for table in ("csv", "parquet"):
            yield Case(kind, f"{table}: {name}", refused(partial(_manifest, path=path, table=table), word))
    yield Case(kind, "published list: parent", refused(_published, "no path below"))
    for name, (member, word) in TARS.items():
        yield Case(kind, f"tar: {name}", refused(partial(_tar, member=member), word))
        yield Case(
            kind, f"tar in a manifest: {name}", refused(partial(_tar, member=member, manifest=True), word)
        )
    for name, (zipped, word) in ZIPS.items():
        yield Case(kind, f"zip: {name}", refused(partial(_zip, write=zipped), word))
    for name, (write, word) in FOLDERS.items():
        yield Case(kind, f"folder: {name}", refused(partial(_folder, write=write), word))
    yield Case(kind, "shards: loop", refused(partial(_shards, write=_loop), "a folder that it lies in"))
    yield Case(
        kind, "shards: pipe", refused(partial(_shards, write=partial(_pipe, name="a.tar")), "no regular file")
    )
    for name, (text, word) in LABELS.items():
        yield Case(kind, f"label: {name}", refused(partial(_label, **text), word))


def _manifest(place: Place, path: str, table: str) -> object:
    (place.root / "good.png").write_bytes(picture())
    paths = ["good.png", path.format(outside=place.outside)]
    if table == "csv":
        text = io.StringIO()
        csv.writer(text).writerows([["path"], *([one] for one in paths)])
        (place.root / "list.csv").write_bytes(text.getvalue().encode())
    else:
        pq.write_table(pa.table({"path": paths}), place.root / "list.parquet")
    return ManifestImages(root=str(place.root), manifest=f"list.{table}").index()


def _published(place: Place) -> object:
    images = [{"id": 1, "file_name": "../outside/secret.png"}]
    listed = {"images": images, "categories": [{"id": 3}], "annotations": [{"image_id": 1, "category_id": 3}]}
    for split in ("train", "val"):
        (place.root / f"{split}2018.json").write_text(json.dumps(listed))
    return INaturalist2018(root=str(place.root)).index()


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """A member of a tar with a picture in it, or of another kind and empty."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, content = kind, link, b"" if kind != tarfile.REGTYPE else picture()
    info.size = len(content)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % BLOCK)


def _sized(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A member that says it has another size."""
    info = tarfile.TarInfo("evil.png")
    info.type = kind
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (
        (size & (2**96 - 1)).to_bytes(12, "big") if size < 0 else b"\x80" + size.to_bytes(11, "big")
    )
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header[:512]):06o}\0 ".encode()
    return bytes(header) + picture() + bytes(-len(picture()) % BLOCK)


# a member of a tar, and what the message says of it
TARS = {
    "parent": (_member("../outside/evil.png"), "no name of a file"),
    "absolute": (_member("/tmp/evil.png"), "no name of a file"),
    "line break": (_member("evil\n.png"), "no name of a file"),
    "symbolic link": (_member("evil.png", tarfile.SYMTYPE, "../outside/secret.png"), "is a link"),
    "hard link": (_member("evil.png", tarfile.LNKTYPE, "../outside/secret.png"), "is a link"),
    "character device": (_member("evil.png", tarfile.CHRTYPE), "a device"),
    "block device": (_member("evil.png", tarfile.BLKTYPE), "a device"),
    "pipe": (_member("evil.png", tarfile.FIFOTYPE), "a device"),
    "sparse": (_member("evil.png", tarfile.GNUTYPE_SPARSE), "sparse"),
    "larger than the tar": (_sized(2**40), "not a complete"),
    "of negative size": (_sized(-BLOCK), "not a complete"),
    "name larger than memory": (_sized(2**62, tarfile.GNUTYPE_LONGNAME), "not a complete"),
    "header of negative size": (_sized(-BLOCK, tarfile.XHDTYPE), "not a complete"),
}


def _tar(place: Place, member: bytes, manifest: bool = False) -> object:
    (place.root / "a.tar").write_bytes(_member("good.png") + member + bytes(2 * BLOCK))
    if not manifest:
        return ShardImages(root=str(place.root)).index()
    (place.root / "list.csv").write_text("path\na.tar/good.png\n")
    return ManifestImages(root=str(place.root), manifest="list.csv").index()


def _label(place: Place, suffix: str, content: bytes) -> object:
    info = tarfile.TarInfo(f"good{suffix}")
    info.size = len(content)
    text = info.tobuf() + content + bytes(-len(content) % BLOCK)
    (place.root / "a.tar").write_bytes(_member("good.png") + text + bytes(2 * BLOCK))
    return ShardImages(root=str(place.root)).index()


LABELS = {
    "very long": ({"suffix": ".cls", "content": b"x" * (2**20 + 1)}, "no label"),
    "nested without end": ({"suffix": ".json", "content": b"[" * 2**19}, "cannot be read"),
    "bytes": ({"suffix": ".cls", "content": b"\xff\xfe"}, "cannot be read"),
}


def _zip(place: Place, write: Callable[[zipfile.ZipFile], object]) -> object:
    path = place.root / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.png", picture())
        change = write(archive)
    if callable(change):
        path.write_bytes(change(path.read_bytes()))
    if "list.csv" in zipfile.ZipFile(path).namelist():
        return ManifestImages(root=str(path), manifest="list.csv").index()
    return FolderImages(root=str(path)).index()


def _add(archive: zipfile.ZipFile, name: str, mode: int = 0, packed: int = zipfile.ZIP_STORED) -> None:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, packed
    archive.writestr(info, bytes(2**25) if name == "list.csv" else picture())


def _in_directory(archive: zipfile.ZipFile, place: int, value: int) -> Callable[[bytes], bytes]:
    """What writes a number into the directory's last entry, ``place`` bytes from its beginning."""

    def change(content: bytes) -> bytes:
        at = content.rindex(b"PK\1\2") + place
        return content[:at] + struct.pack("<I", value) + content[at + 4 :]

    _add(archive, "evil.png")
    return change


# what is done to a zip, and what the message says of it
ZIPS = {
    "parent": (partial(_add, name="../outside/evil.png"), "no name of a file"),
    "absolute": (partial(_add, name="/tmp/evil.png"), "no name of a file"),
    "symbolic link": (partial(_add, name="evil.png", mode=stat.S_IFLNK | 0o777), "is a link"),
    "compressed": (partial(_add, name="evil.png", packed=zipfile.ZIP_DEFLATED), "is compressed"),
    "larger than the zip": (partial(_in_directory, place=24, value=2**31), "ends behind"),
    "encrypted": (partial(_in_directory, place=8, value=1), "encrypted"),
    "the bytes of another": (partial(_in_directory, place=42, value=0), "ends behind"),
    "beyond the end": (partial(_in_directory, place=42, value=2**31), "not where"),
    "manifest like a bomb": (partial(_add, name="list.csv", packed=zipfile.ZIP_DEFLATED), "no table"),
}


def _folder(place: Place, write: Write) -> object:
    (place.root / "red").mkdir()
    (place.root / "red" / "good.png").write_bytes(picture())
    write(place)
    return FolderImages(root=str(place.root)).index()


def _shards(place: Place, write: Write) -> object:
    (place.root / "red").mkdir()
    write(place)
    return ShardImages(root=str(place.root)).index()


def _loop(place: Place) -> None:
    (place.root / "red" / "again").symlink_to("..")


def _two_loops(place: Place) -> None:
    (place.root / "blue").mkdir()
    (place.root / "red" / "other").symlink_to(place.root / "blue")
    (place.root / "blue" / "other").symlink_to(place.root / "red")


def _link(place: Place, to: Path) -> None:
    (place.root / "red" / "evil.png").symlink_to(to)


def _pipe(place: Place, name: str) -> None:
    os.mkfifo(place.root / "red" / name)


def _named(place: Place, name: str) -> None:
    (place.root / "red" / name).write_bytes(picture())


# what lies in a folder, and what the message says of it
FOLDERS = {
    "loop": (_loop, "a folder that it lies in"),
    "loop of two": (_two_loops, "a folder that it lies in"),
    "pipe": (partial(_pipe, name="evil.png"), "no regular file"),
    "device": (partial(_link, to=Path("/dev/zero")), "no regular file"),
    "not UTF-8": (partial(_named, name=os.fsdecode(b"evil\xff.png")), "not UTF-8"),
}
