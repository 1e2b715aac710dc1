import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from cf_lightning.data.folder import FolderImages
from cf_lightning.data.index import DIFFICULT, Index
from cf_lightning.errors import DataError
from cf_lightning.transfer.average_precision import mean_average_precision
from cf_lightning.transfer.splits import Split, labelled_splits

Fixture = Callable[..., Any]
NONE = np.empty(0, np.int64)


def with_difficult(index: Index, difficult: Sequence[str]) -> Index:
    column = pa.array([names.split() for names in difficult], DIFFICULT.type)
    return Index(index.table.append_column(DIFFICULT, column), index.origin)


LABELS = ["a b", "b", None, None, "a", "b", "b a"]
SPLITS = ["train", "train", "train", "val", "test", "test", "test"]


def test_each_class_is_there_or_not_or_difficult(make_index: Fixture) -> None:
    labels = ["a b", "a", None, "b", None, "a", "b", "b a"]
    splits = ["train", "train", "train", "train", "val", "test", "test", "test"]
    plain = make_index(labels, splits)
    train, test = labelled_splits(plain, NONE)
    assert (train.rows.tolist(), train.labels.tolist()) == ([0, 1, 3], [[1, 1], [1, 0], [0, 1]])
    index = with_difficult(plain, ["", "b", "a b", "", "a", "", "a", ""])
    train, test = labelled_splits(index, NONE)
    assert train.rows.tolist() == [0, 1, 2, 3]
    assert train.labels.tolist() == [[1, 1], [1, -1], [-1, -1], [0, 1]]
    assert (test.rows.tolist(), test.labels.tolist()) == ([5, 6, 7], [[1, 0], [-1, 1], [1, 1]])
    assert train.labels.dtype == np.int8
    train, test = labelled_splits(index, np.array([0, 2, 6]))
    assert (train.rows.tolist(), train.labels.tolist()) == ([1, 3], [[1, -1], [0, 1]])
    assert (test.rows.tolist(), test.labels.tolist()) == ([5, 7], [[1, 0], [1, 1]])


def test_single_labels_with_a_column_of_difficult_ones_are_classes_by_themselves(make_index: Fixture) -> None:
    plain = make_index(["a", "b", "a", "b"], ["train", "train", "test", "test"])
    assert not plain.has_several_labels
    assert labelled_splits(plain, NONE)[0].labels.tolist() == [0, 1]
    index = with_difficult(plain, ["", "", "", ""])
    assert index.has_several_labels
    assert labelled_splits(index, NONE)[0].labels.tolist() == [[1, 0], [0, 1]]
    assert index.fingerprint != plain.fingerprint


def test_the_fingerprint_of_data_without_difficult_classes_is_what_it_was(make_index: Fixture) -> None:
    assert make_index(LABELS, SPLITS).fingerprint == "11885cf71012129886e6"


def test_difficult_samples_are_no_part_of_the_average_precision(make_index: Fixture) -> None:
    plain = make_index(["a", "b", "a", "b", "a"], ["train", "train", "test", "test", "test"])
    scores = np.array([[0.5, 0.1], [0.9, 0.9], [0.4, 0.2]])
    precisions = []
    for difficult in ("", "a"):
        _, test = labelled_splits(with_difficult(plain, ["", "", "", difficult, ""]), NONE)
        precisions.append(mean_average_precision(scores, test.labels, {}).details["ap"])
    assert precisions[0] == pytest.approx([2 / 3, 1], abs=1e-4)
    assert precisions[1] == [1, 1]


@pytest.mark.parametrize(
    ("labels", "difficult", "message"),
    [
        (
            ["a", "b", "a", None],
            ["", "", "", "b"],
            r"1 classes have no sample in split test, .*undefined \(b\)",
        ),
        (["a", None, "a", "b"], ["", "b", "", ""], r"1 classes of split test have no sample in train \(b\)"),
        (["a", "a", "a", "a"], ["", "", "", ""], r"there is one class \(a\); a target needs two or more"),
        ([None, None, "a", "b"], ["", "", "", ""], "no sample with a label in split train"),
        (
            ["a", "b", "a", "b"],
            ["", "", "c", ""],
            r"1 classes have no sample in split test, .*undefined \(c\)",
        ),
    ],
)
def test_classes_that_are_only_difficult_do_not_count(
    make_index: Fixture, labels: list[str | None], difficult: list[str], message: str
) -> None:
    index = with_difficult(make_index(labels, ["train", "train", "test", "test"]), difficult)
    with pytest.raises(DataError, match=message):
        labelled_splits(index, NONE)


def folder(root: Path, *names: str) -> FolderImages:
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG")
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(buffer.getvalue())
    return FolderImages(root=str(root), holdout=0.0)


def splits(source: FolderImages) -> tuple[Split, Split]:
    return labelled_splits(source.index(), NONE)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["train/a/1.png", "train/b/1.png"],
            "no sample with a label in split val; a target needs some: name its samples, or set train aside "
            "with test_share",
        ),
        (
            ["test/a/1.png", "test/b/1.png"],
            "no sample with a label in split train; a target needs some: name",
        ),
        (
            ["train/a/1.png", "train/b/1.png", "test/1.png"],
            "no sample with a label in split test; a target needs some$",
        ),
        (["train/a/1.png", "test/a/1.png"], r"split train has one class \(a\); a target needs two or more"),
        (
            ["train/a/1.png", "train/b/1.png", "test/c/1.png", "test/a/1.png"],
            r"1 classes of split test have no sample in train \(c\); move some there or ",
        ),
    ],
)
def test_a_target_that_cannot_be_measured_is_refused(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        splits(folder(tmp_path, *names))


def test_a_class_that_is_only_learnt_is_no_error(tmp_path: Path) -> None:
    train, test = splits(folder(tmp_path, "train/a/1.png", "train/b/1.png", "train/c/1.png", "test/b/1.png"))
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 2], [1])
