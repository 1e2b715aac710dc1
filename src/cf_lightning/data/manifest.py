"""Images or videos named in a table: path, split, label, tags."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from cf_lightning.config import Component
from cf_lightning.data.cells import as_text, text, words
from cf_lightning.data.containers import (
    UNWRITTEN,
    File,
    file_size,
    first_match,
    open_zip,
    sample_table,
    tar_members,
    zip_members,
    zip_text,
)
from cf_lightning.data.image_source import ImageSource
from cf_lightning.data.index import SPLIT_NAMES
from cf_lightning.data.source import Source
from cf_lightning.data.video_source import VideoSource
from cf_lightning.errors import DataError


class Columns(Component):
    """What the columns of the manifest are called.

    All but the first may be absent under their usual names: then every sample is train, or has no label,
    or no tags. A name that is not the usual one has to be there.

    Attributes:
        path: of the file, below the root.
        split: train, val (also valid, validation) or test.
        label: class names, several separated by spaces.
        tags: hashtags, separated by spaces.
    """

    path: str = "path"
    split: str = "split"
    label: str = "label"
    tags: str = "tags"


class VideoColumns(Columns):
    """Those of videos, a row of which may be a part of a file.

    Attributes:
        start: where it begins, in seconds; empty is the beginning of the file.
        end: where it ends; empty is the end.
    """

    start: str = "start"
    end: str = "end"


class Manifest(Source):
    """Files below a folder or in a zip, named by a CSV or Parquet file; rows are sorted by path.

    A file in a tar shard below the folder is SHARD.tar/NAME, which is its key in ``Shards``, too.

    Attributes:
        manifest: a ``.csv`` or ``.parquet`` file below the root, in the root's zip, or an absolute path.
        columns: the names of its columns. Cells are text; in Parquet, label and tags may be lists.
    """

    manifest: str
    columns: Columns = Columns()

    def list_samples(self) -> pa.Table:
        """One row for each row of the manifest."""
        table = self._read()
        paths = pc.replace_substring_regex(text(table[self.columns.path]), r"^(\./)+", "")
        self._check_below(paths)
        keys = self._keys(paths, table)
        order = pc.sort_indices(keys)
        keys, paths, table = keys.take(order), paths.take(order), table.take(order)
        split, label, tags = (
            table[name] if name in table.column_names else None
            for name in (self.columns.split, self.columns.label, self.columns.tags)
        )
        files = self._files(paths.to_pylist())
        return sample_table(
            [file._replace(key=key) for file, key in zip(files, keys.to_pylist(), strict=True)],
            ["train"] * len(paths) if split is None else self._splits(split, paths),
            [[]] * len(paths) if label is None else words(label),
            [[]] * len(paths) if tags is None else words(tags),
        )

    def _check_below(self, paths: pa.Array) -> None:
        """Refuse a manifest that leads out of the root, before anything is looked for there."""
        if (row := first_match(UNWRITTEN, paths)) is not None:
            raise DataError(
                f"manifest={self.manifest}: row {row + 1} below the header has {self.columns.path}="
                f"{paths[row].as_py()!r}; paths are relative to root={self.root} and stay below it"
            )

    def _keys(self, paths: pa.Array, table: pa.Table) -> pa.Array:
        """What each row is known by."""
        return paths

    def _read(self) -> pa.Table:
        """The columns that matter, as far as they are there."""
        content = self._content()
        try:
            if self.manifest.endswith(".parquet"):
                wanted = self._present(pq.read_schema(pa.BufferReader(content)).names)
                table = pq.read_table(pa.BufferReader(content), columns=wanted)
                return as_text(table, lists=(self.columns.label, self.columns.tags))
            parsing = csv.ParseOptions(newlines_in_values=True)
            header = csv.open_csv(pa.BufferReader(content), parse_options=parsing).schema
            wanted = self._present(header.names)
            convert = csv.ConvertOptions(  # a class named 007 is not the number 7
                include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string())
            )
            return csv.read_csv(pa.BufferReader(content), parse_options=parsing, convert_options=convert)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"manifest={self.manifest}: it cannot be read ({reason})") from None

    def _content(self) -> bytes:
        """The bytes of the manifest, wherever it lies."""
        if not self.manifest.endswith((".csv", ".parquet")):
            raise DataError(f"manifest={self.manifest}: the name of a manifest ends in .csv or .parquet")
        root = self.folder()
        file = root / Path(self.manifest).expanduser()  # the manifest alone where its path is absolute
        if file.is_file():
            return file.read_bytes()
        if root.is_file():
            with open_zip(root) as archive:
                if self.manifest in archive.namelist():
                    return zip_text(archive, self.manifest)
        raise DataError(f"manifest={self.manifest}: there is no such file below root={self.root}")

    def _present(self, there: list[str]) -> list[str]:
        """The columns to read, when all that have to be there are."""
        wanted = []
        for role, usual in type(self.columns)().model_dump().items():
            name = getattr(self.columns, role)
            if there.count(name) == 1:
                wanted.append(name)
            elif role == "path" or name != usual or name in there:
                problem = "more than one column" if name in there else "no column"
                raise DataError(
                    f"manifest={self.manifest}: {problem} {name}; it has {', '.join(there)}: "
                    f"say which one to take with data.columns.{role}=NAME"
                )
        return list(dict.fromkeys(wanted))

    def _splits(self, column: pa.ChunkedArray, paths: pa.Array) -> pa.Array:
        """The splits of ``index.SPLITS`` that the cells name."""
        names = pc.utf8_trim_whitespace(text(column))
        number = pc.index_in(names, pa.array(SPLIT_NAMES))
        if number.null_count:
            row = pc.index(pc.is_null(number), True).as_py()
            raise DataError(
                f"manifest={self.manifest}: {paths[row]} has {self.columns.split}={names[row]!s}, as one of "
                f"{number.null_count} rows; a split is train, val (also valid, validation) or test"
            )
        return pa.array(SPLIT_NAMES.values()).take(number)

    def _files(self, paths: list[str]) -> list[File]:
        """Where each image lies."""
        root = self.folder()
        if root.is_dir():
            inside = _in_shards(root, paths)
            files = [inside.get(path) or File(path, file_size(f"{root}/{path}")) for path in paths]
        else:
            members = {file.key: file for file in zip_members(root, set(paths).__contains__)}
            files = [members.get(path, File(path, None)) for path in paths]
        missing = [file.key for file in files if file.size is None]
        if missing:
            raise DataError(
                f"manifest={self.manifest}: {missing[0]!r} and {len(missing) - 1} more of {len(files)} files "
                f"are not there; paths are relative to root={self.root}"
            )
        return files


class ManifestImages(ImageSource, Manifest):
    """Images named in a table."""


class ManifestVideos(VideoSource, Manifest):
    """Videos named in a table, or parts of them, in seconds from the beginning of the file.

    Attributes:
        columns: the names of its columns. Start and end are numbers.
    """

    columns: VideoColumns = VideoColumns()

    def _keys(self, paths: pa.Array, table: pa.Table) -> pa.Array:
        """PATH, or PATH#t=START,END where a row has one of them."""
        start, end = (self._seconds(table, name, paths) for name in (self.columns.start, self.columns.end))
        wrong = np.flatnonzero(end <= np.nan_to_num(start))
        if len(wrong):
            row = int(wrong[0])
            raise DataError(
                f"manifest={self.manifest}: {paths[row]} ends at {end[row]:g} s, not after its "
                f"start at {np.nan_to_num(start[row]):g} s, as one of {len(wrong)} rows; both are "
                "seconds from the beginning of the file"
            )
        start[start == 0] = np.nan  # as if it were empty: one key for one sample
        parts = [_fragment(*times) for times in zip(start.tolist(), end.tolist(), strict=True)]
        return pa.array([f"{path}{part}" for path, part in zip(paths.to_pylist(), parts, strict=True)])

    def _seconds(self, table: pa.Table, name: str, paths: pa.Array) -> np.ndarray:
        """(N,) float64 of a column, NaN where a cell is empty."""
        if name not in table.column_names:
            return np.full(len(paths), np.nan)
        cells = pc.utf8_trim_whitespace(text(table[name])).to_pylist()
        seconds = np.full(len(cells), np.nan)
        for row, cell in enumerate(cells):
            if not cell:
                continue
            try:
                seconds[row] = float(cell)
            except ValueError:
                seconds[row] = -1
            if not 0 <= seconds[row] < np.inf:
                raise DataError(
                    f"manifest={self.manifest}: {paths[row]} has {name}={cell}; it is a number of "
                    "seconds, 0 or more, or empty"
                )
        return seconds


def _fragment(start: float, end: float) -> str:
    """What names a part of a video (W3C Media Fragments URI 1.0, section 4.2.1)."""
    shortest = (np.format_float_positional(time, trim="-") for time in (start, end))
    first, last = (text.replace("nan", "") for text in shortest)
    return f"#t={first},{last}".rstrip(",") if first or last else ""


def _in_shards(root: Path, paths: list[str]) -> dict[str, File]:
    """The files of the tar shards that paths lead into, by their paths."""
    shards = sorted({path.partition(".tar/")[0] + ".tar" for path in paths if ".tar/" in path})
    files: list[File] = []
    for shard in shards:
        if (root / shard).is_file():
            with open(root / shard, "rb") as tar:
                files += tar_members(tar, str(root / shard), shard)
    return {f"{file.shard}/{file.key}": file._replace(key=f"{file.shard}/{file.key}") for file in files}
