import itertools

import numpy as np
import pytest

from cf_lightning.clustering.group import ALONE
from cf_lightning.clustering.starts import divide, plus_plus, random_rows, two_level
from samples import blobs, inertia_of, rows_of, squared


def start(init: str, points: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    rows = rows_of(points)
    if init == "two_level":
        return two_level(rows, k, seed, ALONE, "cpu")
    return (plus_plus if init == "kmeans++" else random_rows)(rows, k, seed)


@pytest.mark.parametrize("init", ["random", "kmeans++", "two_level"])
@pytest.mark.parametrize("k", [1, 2, 3, 7, 40, 99, 100])
def test_k_different_finite_centroids(init: str, k: int) -> None:
    points = blobs(100)
    centroids = start(init, points, k)
    assert centroids.shape == (k, 8)
    assert centroids.dtype == np.float32
    assert len(np.unique(centroids, axis=0)) == k
    assert inertia_of(points, centroids) <= inertia_of(points, np.zeros((1, 8))) * 2
    if init != "two_level" or k == 100:
        assert squared(centroids, points).min(axis=1).max() == 0, "they are rows"


@pytest.mark.parametrize("init", ["random", "kmeans++", "two_level"])
def test_a_seed_draws_them(init: str) -> None:
    points = blobs(300)
    first, again, other = (start(init, points, 20, seed) for seed in (5, 5, 6))
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_the_better_ones_are_better() -> None:
    points = blobs(3000, 16, 60)
    inertia = {
        init: np.mean([inertia_of(points, start(init, points, 60, seed)) for seed in range(3)])
        for init in ("random", "kmeans++", "two_level")
    }
    assert inertia["two_level"] < 0.8 * inertia["random"]
    assert inertia["kmeans++"] < inertia["random"]


@pytest.mark.parametrize("init", ["random", "kmeans++", "two_level"])
def test_they_do_not_share_memory_with_the_rows(init: str) -> None:
    points = blobs(50)
    assert not np.shares_memory(start(init, points, 50), points)


def test_two_level_divides_duplicates() -> None:
    points = np.repeat(blobs(9, 8, 9), 30, axis=0)
    centroids = two_level(rows_of(points), 9, 0, ALONE, "cpu")
    assert np.isfinite(centroids).all()
    assert inertia_of(points, centroids) < inertia_of(points, points.mean(axis=0, keepdims=True))


def test_divide_by_hand() -> None:
    assert divide(4, np.array([10, 10])).tolist() == [2, 2]
    assert divide(5, np.array([30, 10, 10])).tolist() == [3, 1, 1]
    assert divide(4, np.array([1000, 0, 1, 1])).tolist() == [2, 0, 1, 1]
    assert divide(6, np.array([4, 1, 1])).tolist() == [4, 1, 1]


def test_divide_keeps_its_promises() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        sizes = rng.integers(0, rng.integers(2, 50), rng.integers(1, 20))
        least, most = int((sizes > 0).sum()), int(sizes.sum())
        if most == 0:
            continue
        k = int(rng.integers(least, most + 1))
        parts = divide(k, sizes)
        assert parts.sum() == k
        assert (parts <= sizes).all()
        assert (parts[sizes > 0] >= 1).all()
        order = np.argsort(sizes)
        assert all(parts[b] - parts[a] >= -1 for a, b in itertools.pairwise(order))


@pytest.mark.parametrize("k", [1, 8])
def test_divide_refuses_what_cannot_be(k: int) -> None:
    with pytest.raises(ValueError, match="cannot be divided"):
        divide(k, np.array([3, 4]))
