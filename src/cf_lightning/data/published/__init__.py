"""Data sets in the layout in which each is published: what they have in common."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from cf_lightning.data.containers import UNWRITTEN, File, file_size, list_files, sample_table
from cf_lightning.data.image_source import ImageSource
from cf_lightning.data.index import DIFFICULT
from cf_lightning.data.published.counts import Count, check_counts
from cf_lightning.data.source import Source
from cf_lightning.data.video_source import VideoSource
from cf_lightning.errors import DataError


class Listed(NamedTuple):
    """A sample that a data set's own lists name; its size is ``None`` where it is not there.

    ``difficult`` are classes that it has and that are not to be counted; ``None`` where a set knows no such.
    """

    file: File
    split: str
    labels: list[str]
    difficult: list[str] | None = None


class Published(Source, ABC):
    """Samples below a folder, listed by annotation files that lie beside them; rows are sorted by path.

    Videos of YouTube disappear: with ``on_error: skip`` a listed sample that is not there keeps its row, as
    one that cannot be decoded.

    Attributes:
        expected: how many classes, samples, or samples of a split it was published with; ``None`` takes
            what is there, such as a part of it.
    """

    expected: dict[Count, int] | None = None

    @abstractmethod
    def listed(self) -> Iterator[Listed]:
        """Every sample of the splits that have labels.

        Raises:
            DataError: a list is not there, or a line of it is not what it should be.
        """

    def list_samples(self) -> pa.Table:
        """One row for each listed sample.

        Raises:
            DataError: as ``listed``, a sample is not there and is not to be skipped, or none is there, or
                there are not as many as are expected.
        """
        rows = sorted(self.listed(), key=lambda row: row.file.key)
        missing = [row.file.key for row in rows if row.file.size is None]
        if missing and (self.on_error == "fail" or len(missing) == len(rows)):
            hint = "" if len(missing) == len(rows) else ", or leave them out with on_error=skip"
            raise DataError(
                f"root={self.root}: {len(missing)} of {len(rows)} listed samples are not there, the first is "
                f"{missing[0]}; put them below the root{hint}"
            )
        files, splits, labels, difficult = zip(*rows, strict=True) if rows else ((), (), (), ())
        table = sample_table(list(files), splits, labels, [[]] * len(rows))
        if None not in difficult:
            table = table.append_column(DIFFICULT, pa.array(difficult, DIFFICULT.type))
        check_counts(table, self.expected, self.root)
        return table

    def file(self, key: str) -> File:
        """The file at a path below the root.

        Raises:
            DataError: an annotation file leads out of it.
        """
        self._check_below(key)
        return File(key, file_size(os.path.expanduser(f"{self.root}/{key}")))

    def below(self, folder: str) -> list[File]:
        """The samples below a folder of the root, sorted by path; none where there is no such folder.

        Raises:
            DataError: an annotation file leads out of the root.
        """
        self._check_below(folder)
        path = self.folder() / folder
        files = list_files(path, self.SUFFIXES) if path.is_dir() else []
        return [file._replace(key=f"{folder}/{file.key}") for file in files]

    def _check_below(self, path: str) -> None:
        if re.search(UNWRITTEN, path):
            raise DataError(f"root={self.root}: {path!r} in its lists is no path below it")

    def annotations(self, name: str, line: str, like: str, header: int = 0) -> "Iterator[re.Match[str]]":
        """The lines of an annotation file; empty ones are passed over.

        Args:
            name: of the file, below the root.
            line: the regular expression that a whole line matches, without white space at its ends.
            like: what a line should look like, for the message.
            header: so many lines at the beginning are something else.

        Raises:
            DataError: the file is not there or not UTF-8, or a line does not match.
        """
        try:
            text = (self.folder() / name).read_text("utf-8-sig")
        except OSError as error:
            raise DataError(f"root={self.root}: {name} cannot be read ({error.strerror})") from None
        except UnicodeDecodeError as error:
            raise DataError(f"root={self.root}: {name} is not UTF-8 ({error.reason})") from None
        form = re.compile(line)
        for number, content in enumerate(text.split("\n"), start=1):
            found = form.fullmatch(content.strip())
            if found and number > header:
                yield found
            elif content.strip() and number > header:
                raise DataError(
                    f"root={self.root}: {name}, line {number}: {content.strip()!r} should be like {like!r}"
                )


class PublishedImages(ImageSource, Published):
    """Images in the layout in which they are published."""


class PublishedVideos(VideoSource, Published):
    """Videos in the layout in which they are published."""
