"""What lies in a folder, a zip or a tar, and where: each file is then one ``read`` or ``pread`` away."""

import mmap
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from cf_lightning.data.index import SCHEMA
from cf_lightning.errors import DataError

WHOLE_ROOT = ""  # the shard's name where the root itself is the container: a location enters no fingerprint
OUTSIDE = r"^/|(^|/)\.\.(/|$)|\x00"  # no path below its root: absolute, or by way of a folder above
# nor with control characters: a file of a folder may have them, a manifest or an archive does not need them
UNWRITTEN = OUTSIDE + r"|[\x01-\x1f\x7f]"
DENSEST = 100  # times as long as it is compressed: more is no table of names


class File(NamedTuple):
    """A file of a data set: the columns of ``index.SCHEMA`` that say where its bytes lie."""

    key: str
    size: int | None
    crc: int | None = None
    shard: str | None = None
    offset: int | None = None


def sample_table(files: list[File], split: Any, labels: Any, tags: Any) -> pa.Table:
    """A table with the columns of ``index.SCHEMA``: row i of every argument is the same sample.

    Args:
        files: where the samples lie.
        split: (N,) names of ``index.SPLITS``; list or Arrow array, as are the next two.
        labels: (N,) lists of class names.
        tags: (N,) lists of hashtags.

    Raises:
        DataError: a file's name is not UTF-8, or no path below the root.
    """
    places = list(zip(*files, strict=True)) or [()] * len(File._fields)
    columns = dict(zip(File._fields, places, strict=True))
    try:
        table = pa.table({**columns, "split": split, "labels": labels, "tags": tags}, schema=SCHEMA)
    except UnicodeEncodeError as error:
        raise DataError(f"{error.object!a}: the file's name is not UTF-8; rename it") from None
    if (row := first_match(OUTSIDE, table["key"])) is not None:
        raise DataError(f"{files[row].key!r}: no name of a file below the root; rename it")
    return table


def first_match(pattern: str, names: pa.Array) -> int | None:
    """The first of some names that matches ``OUTSIDE`` or ``UNWRITTEN``, if there is one."""
    row: int = pc.index(pc.match_substring_regex(names, pattern), True).as_py()
    return None if row < 0 else row


def list_files(root: Path, suffixes: tuple[str, ...]) -> list[File]:
    """Every file with one of these endings below a folder, links followed, or in a zip; sorted by path.

    The case of an ending does not matter; what is hidden, or in a hidden folder, is left out.

    Raises:
        DataError: a folder cannot be read, a link leads nowhere or to a folder above it, or as in
            ``zip_members``.
    """

    def wanted(key: str) -> bool:
        return key.lower().endswith(suffixes) and "/." not in "/" + key

    if not root.is_dir():
        return sorted(zip_members(root, wanted))
    files = []
    for key in walk(root):
        if not wanted(key):
            continue
        size = file_size(os.path.join(root, key))
        if size is None:
            raise DataError(f"root={root}: {key} is a link to a file that is not there, or no regular file")
        files.append(File(key, size))
    return sorted(files)


def walk(root: Path) -> Iterator[str]:
    """The paths of all files below a folder, links followed and hidden folders left out.

    Raises:
        DataError: a folder cannot be read, or a link leads to a folder above it, which has no end.
    """
    above = {str(root): {_identity(str(root))}}  # what every folder still to come lies in
    for folder, below, names in os.walk(root, followlinks=True, onerror=_unreadable):
        around = above.pop(folder)
        below[:] = [name for name in below if not name.startswith(".")]
        for name in below:
            path = os.path.join(folder, name)
            if (itself := _identity(path)) in around:
                raise DataError(f"root={root}: {path} is a link to a folder that it lies in; remove it")
            above[path] = around | {itself}
        inside = os.path.relpath(folder, root).replace(os.sep, "/").removeprefix(".")
        yield from (f"{inside}/{name}".removeprefix("/") for name in names)


def _identity(folder: str) -> tuple[int, int]:
    """What two paths to the same folder have in common."""
    try:
        status = os.stat(folder)
    except OSError as error:
        _unreadable(error)
    return status.st_dev, status.st_ino


def _unreadable(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename} cannot be listed ({error.strerror})")


def file_size(path: str) -> int | None:
    """Bytes of a regular file, ``None`` where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def open_zip(path: Path) -> zipfile.ZipFile:
    """The zip that a root is; raises ``DataError`` where it is none."""
    try:
        if file_size(str(path)) is None:
            raise zipfile.BadZipFile("no regular file")
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, OverflowError, ValueError) as error:
        raise DataError(f"root={path}: not a folder and not a complete zip file ({error})") from None


def zip_text(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member that is read whole and may be compressed, such as a manifest.

    Raises:
        DataError: it is damaged, encrypted, or far too large when it is unpacked.
    """
    about = archive.getinfo(name)
    if about.file_size > max(2**24, DENSEST * about.compress_size):
        raise DataError(
            f"root={archive.filename}: {name} has {about.compress_size} bytes that become {about.file_size}: "
            f"no table of names; unpack it beside the zip if it is one"
        )
    try:
        return archive.read(about)
    except Exception as error:  # each kind of compression has its own
        raise DataError(f"root={archive.filename}: {name} cannot be read ({error})") from error


def zip_members(path: Path, wanted: Callable[[str], bool]) -> list[File]:
    """The members of a zip whose name is ``wanted``, in the order of its central directory.

    Raises:
        DataError: not a zip, or damaged; a member leads out of it; a wanted one is compressed, encrypted or a
            link, or shares bytes with another.
    """
    with open_zip(path) as archive:
        every = [member for member in archive.infolist() if not member.is_dir()]
    for member in every:
        if re.search(UNWRITTEN, member.filename):
            raise DataError(f"root={path}: {member.filename!r} is no name of a file in the zip; pack it anew")
    members = [member for member in every if wanted(_key(member.filename))]
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise DataError(
                f"root={path}: {member.filename} is compressed or encrypted, so that it cannot be read at "
                f"random; unpack the zip and pack it anew with: zip -0 -r NEW.zip ."
            )
        if stat.S_ISLNK(member.external_attr >> 16):
            raise DataError(f"root={path}: {member.filename} is a link; pack anew without: zip -y")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        places = [_data_offset(raw, member, path) for member in members]
        end = len(raw)
    for offset, member in sorted(zip(places, members, strict=True), key=lambda pair: -pair[0]):
        if offset + member.file_size > end:
            raise DataError(
                f"root={path}: {member.filename} ends behind the zip or the next file; pack it anew"
            )
        end = member.header_offset
    return [
        File(_key(member.filename), member.file_size, member.CRC, WHOLE_ROOT, offset)
        for member, offset in zip(members, places, strict=True)
    ]


def _key(name: str) -> str:
    """A member's name as a path below the container: ``tar -c .`` writes ``./name``."""
    return name.removeprefix("./")


def _data_offset(raw: mmap.mmap, member: zipfile.ZipInfo, path: Path) -> int:
    """Where the bytes begin: the local header's extra field may differ in length from the directory's."""
    start = member.header_offset
    header = raw[max(start, 0) : start + 30]  # a fixed part; then name, extra field, data
    if not header.startswith(b"PK\x03\x04"):
        raise DataError(f"root={path}: {member.filename} is not where the zip's directory says; pack it anew")
    name, extra = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
    return start + 30 + name + extra


def tar_members(tar: BinaryIO, place: str, shard: str) -> Iterator[File]:
    """The files in a tar, in its order, so that each can be read while the tar is gone through.

    Args:
        tar: opened; it may be left at any position meanwhile.
        place: of the tar, for messages.
        shard: what the files say of it; their keys are the names in the tar.

    Raises:
        DataError: not an uncompressed tar, cut short, or a member is neither a whole file nor a folder, or
            leads out of it.
    """
    end, size = 0, tar.seek(0, os.SEEK_END)
    tar.seek(0)
    try:
        with tarfile.open(fileobj=tar, mode="r:") as archive:
            for member in archive:
                if member.issparse() or not (member.isreg() or member.isdir()):
                    raise DataError(
                        f"{place}: {member.name} is a link, a device or sparse; pack anew with: "
                        f"tar --dereference --hard-dereference -cf NEW.tar FOLDER"
                    )
                if re.search(UNWRITTEN, member.name):
                    raise DataError(f"{place}: {member.name!r} is no name of a file in the tar; pack it anew")
                length = member.size if member.isfile() else 0
                if length < 0 or not end <= member.offset_data <= size - length:
                    raise tarfile.ReadError(f"{member.name} does not end in it")
                end = member.offset_data
                if member.isfile():
                    end += -(-length // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                    yield File(_key(member.name), member.size, None, shard, member.offset_data)
    except (tarfile.TarError, MemoryError, OverflowError, ValueError) as error:  # of headers that lie
        raise DataError(f"{place}: not a complete, uncompressed tar file ({error})") from None
    tar.seek(end)
    if tar.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes a cut for the end
        raise DataError(f"{place}: not a complete, uncompressed tar file (no mark at its end)")
