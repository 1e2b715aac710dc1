import numpy as np
import pytest

from cf_lightning.tasks.base import Targets

FOUR = Targets(np.array([3, -1, 0]), ["a", "b", "c", "d"])
TWO = Targets(np.array([1, -1, 0]), ["x", "y"])


def test_stacked_targets_keep_rows_heads_and_names() -> None:
    both = Targets.stacked({"four": FOUR, "two": TWO})
    assert both.values.tolist() == [[[3], [1]], [[-1], [-1]], [[0], [0]]]
    assert both.names == {"four": ["a", "b", "c", "d"], "two": ["x", "y"]}
    assert (FOUR.num_classes, both.num_classes) == (4, {"four": 4, "two": 2})


def test_a_row_is_known_when_any_head_has_a_target() -> None:
    assert FOUR.known.tolist() == Targets.stacked({"four": FOUR, "two": TWO}).known.tolist()
    half = Targets(np.array([-1, -1, 0]), ["x", "y"])
    assert Targets.stacked({"half": half, "four": FOUR}).known.tolist() == [True, False, True]


def test_what_cannot_share_one_draw_of_rows_is_refused() -> None:
    weighted = Targets(np.array([1, 0, 0]), ["x", "y"], np.ones(3))
    for one in (weighted, Targets.stacked({"two": TWO})):
        with pytest.raises(ValueError, match="four, other: only unweighted targets of one head"):
            Targets.stacked({"four": FOUR, "other": one})
