"""What a transfer protocol learns from and what it is measured on."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cf_lightning.data.index import Index
from cf_lightning.errors import DataError


@dataclass(frozen=True)
class Split:
    """The labelled samples of one split.

    Attributes:
        rows: (n,) int64, ascending: where a sample stands in the index and in the features.
        labels: (n,) int64: its class, the position in ``Index.classes``. For protocols that take every class
            by itself (n, C) int8: 1 the sample has the class, 0 it has not, -1 difficult (VOC: it has, but
            that is not to be counted).
    """

    rows: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def views(self, number: int) -> "Split":
        """Every view of every sample, as rows of (N * V, D) features; V is ``number``."""
        rows = self.rows[:, None] * number + np.arange(number)
        return Split(rows.ravel(), self.labels.repeat(number, axis=0))

    @property
    def num_classes(self) -> int:
        """C, or one more than the highest class that a sample has."""
        return self.labels.shape[1] if self.labels.ndim == 2 else int(self.labels.max()) + 1


def shuffled_by_class(classes: np.ndarray, seed: int | tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The positions of (n,) int64 classes, class after class and each class shuffled; and each one's place.

    Returns:
        Positions, (n,) int64, and the place of each of them within its class, (n,) int64 from 0.
    """
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    order = shuffled[classes[shuffled].argsort(kind="stable")]
    counts = np.unique(classes, return_counts=True)[1]
    return order, np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)


def labelled_splits(index: Index, skipped: np.ndarray) -> tuple[Split, Split]:
    """The classes of each sample by themselves where some sample has several, else one label a sample.

    Raises:
        DataError: as ``class_splits`` and ``single_label_splits``.
    """
    return (class_splits if index.has_several_labels else single_label_splits)(index, skipped)


def single_label_splits(index: Index, skipped: np.ndarray) -> tuple[Split, Split]:
    """The split train and the split that is measured, without rows that are skipped or have no label.

    Raises:
        DataError: a row has several labels, a split is empty, there is a single class, or a class is
            measured that is not in train.
    """
    labels = index.single_labels()
    labels[skipped] = -1
    train, test = (Split(rows, labels[rows]) for rows in _labelled_rows(index, labels >= 0))
    seen = np.unique(train.labels)
    if len(seen) < 2:
        only = index.classes[seen[0]]
        raise DataError(
            f"root={index.origin}: split train has one class ({only}); a target needs two or more"
        )
    unseen = np.setdiff1d(test.labels, seen)
    _refuse(index, unseen, f"of split {index.test_split} have no sample in train")
    return train, test


def class_splits(index: Index, skipped: np.ndarray) -> tuple[Split, Split]:
    """As ``single_label_splits``, but with (n, C) int8 labels; a sample may have several classes.

    Those that it has and that are not to be counted (VOC's difficult objects) are -1.

    Raises:
        DataError: a split is empty, there is a single class, a class is measured that is not in train, every
            sample of train has a class, or a class is not in the split that is measured, where its average
            precision is undefined.
    """
    named = {1: _pairs(index, "labels"), -1: _pairs(index, "difficult")}
    labelled = np.zeros(len(index), bool)
    for owners, _ in named.values():
        labelled[owners] = True
    labelled[skipped] = False
    splits = []
    for rows in _labelled_rows(index, labelled):
        labels = np.zeros((len(rows), len(index.classes)), np.int8)
        for value, (owners, classes) in named.items():
            among = np.isin(owners, rows)
            labels[np.searchsorted(rows, owners[among]), classes[among]] = value
        splits.append(Split(rows, labels))
    train, test = splits
    if len(index.classes) < 2:
        raise DataError(
            f"root={index.origin}: there is one class ({index.classes[0]}); a target needs two or more"
        )
    learnt, measured = (train.labels == 1).any(axis=0), (test.labels == 1).any(axis=0)
    name = index.test_split
    _refuse(index, np.flatnonzero(measured & ~learnt), f"of split {name} have no sample in train")
    _refuse(index, np.flatnonzero(~measured), f"have no sample in split {name}, so that mAP is undefined")
    _refuse(index, np.flatnonzero((train.labels == 1).all(axis=0)), "have no sample without them in train")
    return train, test


def _pairs(index: Index, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows, (m,) int64, ascending, and the number of a class that is named there, (m,) int64."""
    if column not in index.table.column_names:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    names = index.table[column].combine_chunks()
    owners = pc.list_parent_indices(names).to_numpy()
    return owners, pc.index_in(pc.list_flatten(names), pa.array(index.classes, pa.string())).to_numpy()


def _labelled_rows(index: Index, labelled: np.ndarray) -> list[np.ndarray]:
    """The rows of train and of the split that is measured where ``labelled``, (N,) bool, holds."""
    names = ("train", index.test_split)
    found = [rows[labelled[rows]] for rows in map(index.rows, names)]
    for name, rows in zip(names, found, strict=True):
        if not len(rows):
            hint = "" if len(index.rows(name)) else ": name its samples, or set train aside with test_share"
            raise DataError(
                f"root={index.origin}: no sample with a label in split {name}; a target needs some{hint}"
            )
    return found


def _refuse(index: Index, classes: np.ndarray, problem: str) -> None:
    """Raise where there are classes, (m,) int64, with a problem."""
    if len(classes):
        names = ", ".join(index.classes[label] for label in classes[:3]) + ", ..." * (len(classes) > 3)
        raise DataError(
            f"root={index.origin}: {len(classes)} classes {problem} ({names}); move some there or "
            f"leave these classes out"
        )
