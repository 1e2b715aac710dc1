"""What lies in a folder, a zip or a tar, and where: each file is then one ``read`` or ``pread`` away."""

import mmap
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

from cf_lightning.data.index import SCHEMA
from cf_lightning.errors import DataError

WHOLE_ROOT = ""  # the shard's name where the root itself is the container: a location enters no fingerprint


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
        DataError: a file's name is not UTF-8.
    """
    places = list(zip(*files, strict=True)) or [()] * len(File._fields)
    columns = dict(zip(File._fields, places, strict=True))
    try:
        return pa.table({**columns, "split": split, "labels": labels, "tags": tags}, schema=SCHEMA)
    except UnicodeEncodeError as error:
        raise DataError(f"{error.object!a}: the file's name is not UTF-8; rename it") from None


def list_files(root: Path, suffixes: tuple[str, ...]) -> list[File]:
    """Every file with one of these endings below a folder, links followed, or in a zip; sorted by path.

    The case of an ending does not matter; what is hidden, or in a hidden folder, is left out.

    Raises:
        DataError: a folder cannot be read, a link leads nowhere, or as in ``zip_members``.
    """

    def wanted(key: str) -> bool:
        return key.lower().endswith(suffixes) and "/." not in "/" + key

    if not root.is_dir():
        return sorted(zip_members(root, wanted))
    files = []
    for folder, below, names in os.walk(root, followlinks=True, onerror=_unreadable):
        below[:] = [name for name in below if not name.startswith(".")]
        inside = os.path.relpath(folder, root).replace(os.sep, "/").removeprefix(".")
        for name in names:
            key = f"{inside}/{name}".removeprefix("/")
            if not wanted(key):
                continue
            size = file_size(os.path.join(folder, name))
            if size is None:
                raise DataError(
                    f"root={root}: {key} is a link to a file that is not there, or no regular file"
                )
            files.append(File(key, size))
    return sorted(files)


def _unreadable(error: OSError) -> None:
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
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(f"root={path}: not a folder and not a complete zip file ({error})") from None


def zip_members(path: Path, wanted: Callable[[str], bool]) -> list[File]:
    """The members of a zip whose name is ``wanted``, in the order of its central directory.

    Raises:
        DataError: not a zip, damaged, or a wanted member is compressed or encrypted.
    """
    with open_zip(path) as archive:
        members = [m for m in archive.infolist() if not m.is_dir() and wanted(_key(m.filename))]
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise DataError(
                f"root={path}: {member.filename} is compressed or encrypted, so that it cannot be read at "
                f"random; unpack the zip and pack it anew with: zip -0 -r NEW.zip ."
            )
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        return [
            File(_key(m.filename), m.file_size, m.CRC, WHOLE_ROOT, _data_offset(raw, m, path))
            for m in members
        ]


def _key(name: str) -> str:
    """A member's name as a path below the container: ``tar -c .`` writes ``./name``."""
    return name.removeprefix("./")


def _data_offset(raw: mmap.mmap, member: zipfile.ZipInfo, path: Path) -> int:
    """Where the bytes begin: the local header's extra field may differ in length from the directory's."""
    start = member.header_offset
    header = raw[start : start + 30]  # a fixed part; then name, extra field, data
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
        DataError: not an uncompressed tar, cut short, or a member is a link or sparse.
    """
    end = 0
    try:
        with tarfile.open(fileobj=tar, mode="r:") as archive:
            for member in archive:
                if member.issym() or member.islnk() or member.issparse():
                    raise DataError(
                        f"{place}: {member.name} is a link or sparse; pack anew with: "
                        f"tar --dereference --hard-dereference -cf NEW.tar FOLDER"
                    )
                end = member.offset_data
                if member.isfile():
                    end += -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                    yield File(_key(member.name), member.size, None, shard, member.offset_data)
    except tarfile.TarError as error:
        raise DataError(f"{place}: not a complete, uncompressed tar file ({error})") from None
    tar.seek(end)
    if tar.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes a cut for the end
        raise DataError(f"{place}: not a complete, uncompressed tar file (no mark at its end)")
