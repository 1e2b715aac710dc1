"""The index: one row for each sample, the number by which every other file knows it."""

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cf_lightning.data.cache import Resized
from cf_lightning.errors import DataError

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
SCHEMA = pa.schema(
    [
        ("key", pa.string()),  # the path below the root: unique
        ("split", pa.string()),  # one of SPLITS
        ("labels", pa.list_(pa.string())),  # class names; empty where there are none
        ("tags", pa.list_(pa.string())),  # hashtags; empty where there are none
        ("size", pa.int64()),  # bytes of the encoded sample; null where it has no file
        ("crc", pa.uint32()),  # its checksum where the container has one
        ("shard", pa.string()),  # the container below the root, null for a file of its own
        ("offset", pa.int64()),  # where its bytes begin in the container
    ]
)
# a last column that is there only where a source knows it: classes of a sample that are not to be counted
DIFFICULT = pa.field("difficult", pa.list_(pa.string()))


def has_target(targets: np.ndarray) -> np.ndarray:
    """(N,) bool: the rows of (N,), (N, T) or (N, H, T) int64 targets that have one; -1 is none."""
    return np.asarray((targets >= 0).any(axis=tuple(range(1, targets.ndim))))


class Index:
    """An immutable table of samples; row i is sample i of features, labels and assignments.

    Args:
        table: columns as in ``SCHEMA``, and ``DIFFICULT`` or not, already in the order in which rows are
            numbered.
        origin: the root, for messages.
        resized: where the images lie if they do not lie where the table says.
    """

    FILE = "index.parquet"

    def __init__(self, table: pa.Table, origin: str, resized: Resized | None = None) -> None:
        schema = SCHEMA.append(DIFFICULT) if DIFFICULT.name in table.column_names else SCHEMA
        self.table = table.cast(schema).combine_chunks()
        self.origin, self.resized = origin, resized

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @classmethod
    def read(cls, folder: Path) -> "Index":
        """The index that lies in an artifact's folder."""
        ours, usual = pa.system_memory_pool(), pa.default_memory_pool()
        pa.set_memory_pool(ours)  # the usual one keeps what reading needs: four times the table
        try:
            index = cls(pq.read_table(folder / cls.FILE), str(folder), Resized.found(folder))
        finally:
            pa.set_memory_pool(usual)
        ours.release_unused()
        return index

    def take(self, rows: np.ndarray) -> "Index":
        """An index of (n,) int64 ``rows`` alone, which are numbered anew."""
        resized = self.resized.take(rows) if self.resized else None
        return Index(self.table.take(pa.array(rows)), self.origin, resized)

    def write(self, folder: Path) -> None:
        """Write the index into an artifact's folder."""
        pq.write_table(self.table, folder / self.FILE)

    @cached_property
    def fingerprint(self) -> str:
        """Twenty hexadecimal digits of the sha256 over every row: the identity of the data."""
        sha = hashlib.sha256()
        for name in self.table.column_names:
            sha.update(repr(self.table[name].to_pylist()).encode())
        return sha.hexdigest()[:20]

    def check_unique(self) -> "Index":
        """Raise ``DataError`` when there is no row or a sample is listed twice; else return self."""
        if not len(self):
            raise DataError(f"root={self.origin}: no sample found")
        counts = self.table["key"].combine_chunks().value_counts()
        twice = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(twice):
            first = twice[0]["values"].as_py()
            times = twice[0]["counts"].as_py()
            raise DataError(f"root={self.origin}: {first} is listed {times} times; list each sample once")
        return self

    def rows(self, *splits: str) -> np.ndarray:
        """(n,) int64: the rows of these splits, ascending."""
        wanted = np.isin(self._splits, [SPLITS.index(split) for split in splits])
        return np.flatnonzero(wanted).astype(np.int64)

    @cached_property
    def _splits(self) -> np.ndarray:
        codes = pc.index_in(self.table["split"], pa.array(SPLITS))
        return np.asarray(codes.to_numpy())

    @cached_property
    def test_split(self) -> str:
        """Where a target is measured: ``test`` when the data has it, else ``val``."""
        return "test" if len(self.rows("test")) else "val"

    @cached_property
    def classes(self) -> list[str]:
        """Class names in alphabetical order; the position is the class's number."""
        columns = [self.table[name] for name in ("labels", "difficult") if name in self.table.column_names]
        return sorted({name for column in columns for name in pc.list_flatten(column).unique().to_pylist()})

    @cached_property
    def has_several_labels(self) -> bool:
        """Whether each class is a question by itself: a sample has several, or may have difficult ones."""
        counts = pc.list_value_length(self.table["labels"]).to_numpy()
        return bool(counts.max(initial=0) > 1) or DIFFICULT.name in self.table.column_names

    def single_labels(self) -> np.ndarray:
        """(N,) int64: the class of each row, -1 where it has none.

        Raises:
            DataError: a row has several labels.
        """
        counts = pc.list_value_length(self.table["labels"]).to_numpy()
        if counts.max(initial=0) > 1:
            row = int(np.argmax(counts > 1))
            key, names = self.table["key"][row].as_py(), self.table["labels"][row].as_py()
            raise DataError(f"root={self.origin}: {key} has {len(names)} labels ({' '.join(names)}), not one")
        labels = self.no_targets()
        flat = pc.list_flatten(self.table["labels"])
        labels[counts == 1] = pc.index_in(flat, pa.array(self.classes, pa.string())).to_numpy()
        return labels

    def summary(self) -> dict[str, int]:
        """How many samples each split has, for people."""
        return {split: len(self.rows(split)) for split in SPLITS if len(self.rows(split))}

    def no_targets(self) -> np.ndarray:
        """(N,) int64 of -1: for stages that look at images alone."""
        return np.full(len(self), -1, dtype=np.int64)

    def key(self, row: int) -> str:
        """The path below the root of one sample."""
        return str(self.table["key"][row].as_py())
