import numpy as np

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


def test_heads_draw_a_row_as_often_as_they_would_on_average() -> None:
    often, rarely = Targets(np.array([1, 0, 0]), ["x", "y"], np.array([2.0, 1, 1])), TWO
    weights = Targets.stacked({"often": often, "two": rarely}).weights
    assert weights is not None
    assert weights.tolist() == [0.5, 0.25, 0.25]
    other = Targets(often.values, ["x", "y"], np.array([0.0, 30, 10]))
    weights = Targets.stacked({"often": often, "other": other}).weights
    assert weights is not None
    assert weights.tolist() == [0.25, 0.5, 0.25]
