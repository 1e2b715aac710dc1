import numpy as np
import pytest

import indexes
from cf_lightning.data.index import Index
from cf_lightning.data.views import View
from cf_lightning.errors import DataError
from cf_lightning.tasks.hashtags import Hashtags


def index(tags: list[list[str]], splits: list[str] | None = None) -> Index:
    return indexes.index(tags, splits, column="tags")


TAGS = [["dog", "cat"], ["cat"], [], ["cat", "rare"], ["dog", "dog"], ["cat"]]


def test_targets_are_the_known_tags_of_each_row() -> None:
    targets = Hashtags(min_count=2).targets(index(TAGS))
    assert targets.names == ["cat", "dog"]
    assert targets.values.tolist() == [[0, 1], [0, -1], [-1, -1], [0, -1], [1, -1], [0, -1]]
    assert targets.known.tolist() == [True, True, False, True, True, True]


def test_square_root_resampling_follows_the_rarest_tag() -> None:
    targets = Hashtags(min_count=2, power=0.5).targets(index(TAGS))
    cat, dog = 4**-0.5, 2**-0.5
    assert targets.weights is not None
    np.testing.assert_allclose(targets.weights, [dog, cat, 0, cat, dog, cat])
    even = Hashtags(min_count=2, power=0.0).targets(index(TAGS))
    assert even.weights is not None
    np.testing.assert_allclose(even.weights, [1, 1, 0, 1, 1, 1])


def test_the_vocabulary_is_counted_over_training_rows_alone() -> None:
    splits = ["train", "train", "train", "val", "val", "val"]
    task = Hashtags(min_count=1)
    assert task.targets(index(TAGS, splits)).names == ["cat", "dog"]
    with pytest.raises(DataError, match=r"1 tags .*min_count=2"):
        Hashtags(min_count=2).check(index(TAGS, splits), View())
