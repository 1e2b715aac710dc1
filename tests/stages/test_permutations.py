import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from cf_lightning.errors import ConfigError
from cf_lightning.stages.permutations import Permutations


def made(out: Path, **settings: Any) -> tuple[np.ndarray, dict[str, Any]]:
    out.mkdir(exist_ok=True)
    stage = Permutations(**settings)
    stage.check()
    stage.run(out)
    return np.load(out / "permutations.npy"), json.loads((out / "facts.json").read_text())


def differing(one: Any, other: Any) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("count", [2, 7, 24])
def test_each_one_is_the_farthest_on_average_of_those_that_were_left(count: int, tmp_path: Path) -> None:
    orders, facts = made(tmp_path, grid=2, count=count)
    assert orders.dtype == np.uint8
    left = set(itertools.permutations(range(4)))
    for number, order in enumerate(orders):
        distance = {one: sum(differing(one, before) for before in orders[:number]) for one in left}
        assert distance[tuple(order)] == max(distance.values())
        left.remove(tuple(order))
    between = [differing(*pair) for pair in itertools.combinations(orders, 2)]
    assert facts == {
        "permutations": count,
        "average_distance": pytest.approx(np.mean(between), abs=1e-4),
        "least_distance": min(between),
    }


def test_nine_pieces_and_the_seed(tmp_path: Path) -> None:
    orders, facts = made(tmp_path / "a", grid=3, count=50)
    assert orders.shape == (50, 9)
    assert (np.sort(orders, axis=1) == np.arange(9)).all()
    assert len(np.unique(orders, axis=0)) == 50
    assert not (np.diff(np.sort(orders[:9], axis=0), axis=0) == 0).any(), "the first nine share no position"
    assert 8 < facts["average_distance"] < 9
    assert np.array_equal(made(tmp_path / "b", grid=3, count=50)[0], orders)
    assert not np.array_equal(made(tmp_path / "c", grid=3, count=50, seed=1)[0], orders)


def test_more_than_there_are_is_refused_before_anything_runs() -> None:
    for grid in (2, 3):
        most = math.factorial(grid**2)
        Permutations(grid=grid, count=most).check()
        with pytest.raises(
            ConfigError, match=rf"permutations.count={most + 1}: .*{grid} x {grid} .*at most {most}"
        ):
            Permutations(grid=grid, count=most + 1).check()
    for grid, count in ((1, 2), (4, 2), (3, 1)):
        with pytest.raises(ValidationError):
            Permutations(grid=grid, count=count)
