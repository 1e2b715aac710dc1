"""Images or videos in tar shards, in the layout of WebDataset, read at random."""

import glob
import json
import os
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from cf_lightning.data.containers import File, sample_table, tar_members
from cf_lightning.data.folder import split_by_folder
from cf_lightning.data.image_source import ImageSource
from cf_lightning.data.source import Source
from cf_lightning.data.video_source import VideoSource
from cf_lightning.errors import DataError


class Shards(Source):
    """``root/*.tar``, or ``root/{train,val,test}/*.tar``; nothing is unpacked.

    A sample is the files of a tar that share a name up to its first dot: the image or video; ``.cls``, the
    class's name or number; ``.json``, an object of which ``label`` and ``tags`` are read (lists, or
    text separated by spaces). ``.cls`` comes first where both give a label. Other files are left alone.
    Rows are sorted by shard and name.
    """

    def list_samples(self) -> pa.Table:
        """One row for each image or video; its key is SHARD/NAME."""
        shards = self._shards()
        splits = split_by_folder(shards, f"root={self.root}") or ["train"] * len(shards)
        rows = [
            (file, split, labels, tags)
            for shard, split in zip(shards, splits, strict=True)
            for file, labels, tags in self._samples(shard)
        ]
        rows.sort()
        files, split, labels, tags = zip(*rows, strict=True) if rows else ((), (), (), ())
        return sample_table(list(files), split, labels, tags)

    def _shards(self) -> list[str]:
        """Paths of the tars below the root, sorted."""
        shards = sorted(glob.glob("**/*.tar", root_dir=self.folder(), recursive=True))
        if not shards:
            raise DataError(
                f"root={self.root}: no *.tar file below it; shards are uncompressed tars in a folder, "
                f"or in its folders train/, val/ and test/"
            )
        return shards

    def _samples(self, shard: str) -> Iterator[tuple[File, list[str], list[str]]]:
        """The image or video of each sample, its labels and its tags."""
        path = self.folder() / shard
        with open(path, "rb") as tar:
            for parts in _group(tar_members(path, shard), path):
                inputs = [file for suffix, file in parts.items() if f".{suffix}" in self.SUFFIXES]
                if len(inputs) > 1:
                    names = " and ".join(file.key for file in inputs)
                    raise DataError(f"{path}: {names} are one sample by their names; rename one of them")
                if inputs:
                    file = inputs[0]._replace(key=f"{shard}/{inputs[0].key}")
                    yield file, *_texts(parts, tar.fileno(), path)


class ShardImages(ImageSource, Shards):
    """Images in tar shards."""


class ShardVideos(VideoSource, Shards):
    """Videos in tar shards."""


def _group(files: list[File], path: Path) -> Iterable[dict[str, File]]:
    """The files of each sample by what follows the first dot of their names."""
    samples: dict[tuple[str, str], dict[str, File]] = defaultdict(dict)
    for file in files:
        folder, name = posixpath.split(file.key)
        stem, _, suffix = name.partition(".")
        suffix, parts = suffix.lower(), samples[folder, stem]
        if suffix in parts:
            raise DataError(f"{path}: {file.key} is there twice; a sample's files have one name")
        parts[suffix] = file
    return samples.values()


def _texts(parts: dict[str, File], tar: int, path: Path) -> tuple[list[str], list[str]]:
    """Labels and tags of one sample."""
    labels: list[str] = []
    tags: list[str] = []
    for suffix in ("json", "cls"):
        if suffix not in parts:
            continue
        file = parts[suffix]
        try:
            text = os.pread(tar, file.size or 0, file.offset or 0).decode()
            if suffix == "cls":
                labels = [text.strip()] if text.strip() else labels
            else:
                content = dict(json.loads(text))
                labels, tags = _words(content.get("label")), _words(content.get("tags"))
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: {file.key} cannot be read ({error})") from None
    return labels, tags


def _words(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(word) for word in value]
    return [] if value is None else str(value).split()
