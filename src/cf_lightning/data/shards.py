"""Images or videos in tar shards, in the layout of WebDataset, read at random."""

import json
import posixpath
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import pyarrow as pa

from cf_lightning.data.containers import File, file_size, sample_table, tar_members, walk
from cf_lightning.data.folder import split_by_folder
from cf_lightning.data.image_source import ImageSource
from cf_lightning.data.index import Index
from cf_lightning.data.remote import Bucket, is_url
from cf_lightning.data.source import Source
from cf_lightning.data.video_source import VideoSource
from cf_lightning.errors import DataError

TEXTS = (".cls", ".json")
LONGEST = 2**20  # bytes of such a file: more is no label
LISTED_AT_ONCE = 16  # shards: an object store answers late and to many


class Shards(Source):
    """``root/*.tar``, or ``root/{train,val,test}/*.tar``; nothing is unpacked.

    A sample is the files of a tar that share a name up to its first dot: the image or video; ``.cls``, the
    class's name or number; ``.json``, an object of which ``label`` and ``tags`` are read (lists, or
    text separated by spaces). ``.cls`` comes first where both give a label. Other files are left alone.
    Rows are sorted by shard and name. The root may be a URL of an object store (``data/remote.py``).
    """

    def list_samples(self) -> pa.Table:
        """One row for each image or video; its key is SHARD/NAME."""
        shards = self._shards()
        splits = split_by_folder([*shards], f"root={self.root}") or ["train"] * len(shards)
        with ThreadPoolExecutor(LISTED_AT_ONCE) as pool:
            samples = list(pool.map(self._samples, shards, shards.values()))
        rows = [
            (file, split, labels, tags)
            for some, split in zip(samples, splits, strict=True)
            for file, labels, tags in some
        ]
        rows.sort()
        files, split, labels, tags = zip(*rows, strict=True) if rows else ((), (), (), ())
        return sample_table(list(files), split, labels, tags)

    def encoded(self, index: Index, row: int) -> bytes:
        """The bytes of sample ``row`` as they lie in its shard."""
        if not is_url(self.root):
            return super().encoded(index, row)
        shard, offset, size = (index.table[name][row].as_py() for name in ("shard", "offset", "size"))
        return Bucket(str(self.root)).read(shard, offset, size)

    def _shards(self) -> dict[str, int]:
        """The bytes of each tar below the root, by its path, sorted."""
        if is_url(self.root):
            shards = Bucket(str(self.root)).shards()
        else:
            folder = self.folder()
            names = sorted(walk(folder)) if folder.is_dir() else []
            sizes = {name: file_size(f"{folder}/{name}") for name in names if _is_shard(name)}
            shards = {name: size for name, size in sizes.items() if size is not None}
            if gone := sizes.keys() - shards.keys():
                raise DataError(f"root={self.root}: {min(gone)} is a link to nothing, or no regular file")
        if not shards:
            raise DataError(
                f"root={self.root}: no *.tar file below it; shards are uncompressed tars in a folder, "
                f"or in its folders train/, val/ and test/"
            )
        return shards

    def _samples(self, shard: str, size: int) -> list[tuple[File, list[str], list[str]]]:
        """The image or video of each sample, its labels and its tags."""
        place = f"{self.root}/{shard}"
        files, texts = [], {}
        with self._open_shard(shard, size) as tar:
            for file in tar_members(tar, place, shard):
                files.append(file)
                if file.key.lower().endswith(TEXTS):
                    if (file.size or 0) > LONGEST:
                        raise DataError(f"{place}: {file.key} has {file.size} bytes: no label and no tags")
                    tar.seek(file.offset or 0)
                    texts[file.key] = tar.read(file.size or 0)
        samples = []
        for parts in _group(files, place):
            inputs = [file for suffix, file in parts.items() if f".{suffix}" in self.SUFFIXES]
            if len(inputs) > 1:
                names = " and ".join(file.key for file in inputs)
                raise DataError(f"{place}: {names} are one sample by their names; rename one of them")
            if inputs:
                file = inputs[0]._replace(key=f"{shard}/{inputs[0].key}")
                samples.append((file, *_labels_and_tags(parts, texts, place)))
        return samples

    def _open_shard(self, shard: str, size: int) -> BinaryIO:
        if is_url(self.root):
            return Bucket(str(self.root)).open(shard, size)
        return open(self.folder() / shard, "rb")


class ShardImages(ImageSource, Shards):
    """Images in tar shards."""


class ShardVideos(VideoSource, Shards):
    """Videos in tar shards."""


def _is_shard(name: str) -> bool:
    return name.endswith(".tar") and "/." not in "/" + name


def _group(files: list[File], place: str) -> Iterable[dict[str, File]]:
    """The files of each sample by what follows the first dot of their names."""
    samples: dict[tuple[str, str], dict[str, File]] = defaultdict(dict)
    for file in files:
        folder, name = posixpath.split(file.key)
        stem, _, suffix = name.partition(".")
        suffix, parts = suffix.lower(), samples[folder, stem]
        if suffix in parts:
            raise DataError(f"{place}: {file.key} is there twice; a sample's files have one name")
        parts[suffix] = file
    return samples.values()


def _labels_and_tags(
    parts: dict[str, File], texts: dict[str, bytes], place: str
) -> tuple[list[str], list[str]]:
    """Of one sample."""
    labels: list[str] = []
    tags: list[str] = []
    for suffix in ("json", "cls"):
        if suffix not in parts:
            continue
        key = parts[suffix].key
        try:
            text = texts[key].decode()
            if suffix == "cls":
                labels = [text.strip()] if text.strip() else labels
            else:
                content = dict(json.loads(text))
                labels, tags = _words(content.get("label")), _words(content.get("tags"))
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"{place}: {key} cannot be read ({error})") from None
    return labels, tags


def _words(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(word) for word in value]
    return [] if value is None else str(value).split()
