import numpy as np
import pytest

from cf_lightning.clustering.group import ALONE
from cf_lightning.clustering.lloyd import LloydKMeans
from cf_lightning.clustering.loop import LloydLoop
from cf_lightning.clustering.relocation import nearest_other, relocate, worth
from samples import blobs, fit, inertia_of, rows_of, squared


def two_far_groups() -> np.ndarray:
    """Twice six blobs; whoever starts in the first six never gets to the others by Lloyd's algorithm."""
    near = blobs(300, 8, 6)
    return np.concatenate([near, blobs(300, 8, 6, seed=1) + np.float32(500)])


def sizes(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return np.bincount(squared(points, centroids).argmin(axis=1), minlength=len(centroids))


def test_centroids_cross_the_empty_space_between_two_groups() -> None:
    points = two_far_groups()
    start = points[:300:25].copy()
    stuck = fit(LloydKMeans(iterations=50, relocate=False), points, 12, start=start)
    moved = fit(LloydKMeans(iterations=50), points, 12, start=start)
    assert inertia_of(points, moved.centroids) < 0.3 * inertia_of(points, stuck.centroids)
    in_first = (moved.centroids[:, 0] < 250).sum()
    assert 5 <= in_first <= 7


@pytest.mark.parametrize("seed", range(3))
def test_it_helps_where_the_start_was_bad(seed: int) -> None:
    points = blobs(2000, 16, 40, seed)
    stuck = fit(LloydKMeans(iterations=40, relocate=False, init="random"), points, 40, seed)
    moved = fit(LloydKMeans(iterations=40, init="random"), points, 40, seed)
    assert inertia_of(points, moved.centroids) < 0.99 * inertia_of(points, stuck.centroids)


@pytest.mark.parametrize("num_empty", [1, 5, 8, 9])
def test_centroids_without_rows_are_put_to_use(num_empty: int) -> None:
    points = blobs(500)
    start = points[:10].copy()
    start[10 - num_empty :] += 10_000
    fitted = fit(LloydKMeans(iterations=40), points, 10, start=start)
    assert sizes(points, fitted.centroids).min() > 0
    good = fit(LloydKMeans(iterations=40), points, 10)
    assert inertia_of(points, fitted.centroids) < 1.3 * inertia_of(points, good.centroids)


def test_a_start_of_nothing_but_duplicates() -> None:
    points = blobs(500)
    fitted = fit(LloydKMeans(iterations=40), points, 6, start=np.repeat(points[:1], 6, axis=0))
    assert sizes(points, fitted.centroids).min() > 0


def test_duplicates_among_the_rows() -> None:
    points = np.repeat(blobs(12, 8, 12), 40, axis=0)
    fitted = fit(LloydKMeans(iterations=40, init="random"), points, 12)
    assert inertia_of(points, fitted.centroids) == pytest.approx(0, abs=1e-6)


def test_worth_by_hand() -> None:
    points = np.array([[0, 0], [0, 2], [3, 1], [100, 0], [100, 4], [100, 8]], np.float32)
    centroids = np.array([[0, 1], [3, 1], [100, 4], [3, 101]], np.float32)
    loop = LloydLoop(rows_of(points), centroids, ALONE, "cpu")
    loop.assign()
    cost, gain, partner = worth(loop.centroids, loop.clusters)
    assert partner.tolist() == [1, 0, 1, 1]
    assert cost.tolist() == [2 * 1 / 3 * 9, 2 * 1 / 3 * 9, 3 * 1 / 4 * (97**2 + 3**2), 0]
    assert (gain >= 0).all()
    assert gain.argmax() == 2  # the only large cluster
    assert gain[1] == gain[3] == 0  # there is nothing to split
    # cost is the rise of the inertia when two clusters are joined
    joined = points[:3].mean(axis=0, keepdims=True)
    assert cost[0] == pytest.approx(squared(points[:3], joined).sum() - 2)


def test_nearest_other() -> None:
    centroids = blobs(70)
    distances = squared(centroids, centroids)
    np.fill_diagonal(distances, np.inf)
    assert np.array_equal(nearest_other(centroids), distances.argmin(axis=1))


def test_the_seed_draws_where_a_centroid_goes() -> None:
    def moved(seed: list[int]) -> bytes:
        points = two_far_groups()
        loop = LloydLoop(rows_of(points), points[:300:25].copy(), ALONE, "cpu")
        loop.assign()
        loop.update()
        assert relocate(loop, seed) >= 1
        return loop.centroids.tobytes()

    assert moved([0, 1]) == moved([0, 1]) != moved([1, 1])


def test_nothing_is_moved_where_every_centroid_is_needed() -> None:
    centres = np.eye(8, dtype=np.float32) * 1000
    points = np.repeat(centres, 20, axis=0) + np.random.default_rng(0).standard_normal((160, 8), np.float32)
    loop = LloydLoop(rows_of(points), points[::20].copy(), ALONE, "cpu")
    loop.assign()
    loop.update()
    before = loop.centroids.tobytes()
    assert relocate(loop, [0, 1]) == 0
    assert loop.centroids.tobytes() == before
