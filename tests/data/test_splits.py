from collections import Counter

import pytest

from cf_lightning.data.containers import File, sample_table
from cf_lightning.data.index import Index
from cf_lightning.data.splits import hold_out

CLASSES = {"a": 40, "b": 20, "c": 10}


def labelled(split: str = "train") -> Index:
    labels = [[name] for name, count in CLASSES.items() for _ in range(count)]
    files = [File(f"{number:03d}.mp4", 1) for number in range(len(labels))]
    return Index(sample_table(files, [split] * len(labels), labels, [[]] * len(labels)), "here")


def splits(index: Index) -> list[str]:
    return index.table["split"].to_pylist()


def test_a_seed_takes_the_same_share_of_every_class() -> None:
    index = labelled()

    found = hold_out(index, {"val": 0.1, "test": 0.3}, seed=3)

    counts = Counter(
        zip((names[0] for names in index.table["labels"].to_pylist()), splits(found), strict=True)
    )
    for name, count in CLASSES.items():
        assert counts[name, "val"] == count // 10
        assert counts[name, "test"] == 3 * count // 10
    assert splits(hold_out(index, {"val": 0.1, "test": 0.3}, seed=3)) == splits(found)
    assert splits(hold_out(index, {"val": 0.1, "test": 0.3}, seed=4)) != splits(found)


def test_by_name_a_sample_stays_where_it_is_when_others_go() -> None:
    index = labelled()
    fewer = Index(index.table.slice(0, 50), "here")

    shares = {"val": 0.2, "test": 0.3}

    assert splits(hold_out(fewer, shares, None)) == splits(hold_out(index, shares, None))[:50]
    assert set(splits(hold_out(index, shares, None))) == {"train", "val", "test"}


@pytest.mark.parametrize("seed", [None, 0])
def test_splits_of_the_data_itself_are_left_alone(seed: int | None) -> None:
    index = labelled("test")

    assert hold_out(index, {"val": 0.5}, seed) is index
