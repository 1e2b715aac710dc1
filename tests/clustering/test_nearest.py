from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from cf_lightning.clustering.kernel import kernels
from cf_lightning.clustering.nearest import NearestCentroid, squared_distances
from samples import blobs, hard_kinds, no_kernel, squared, unit

KINDS = hard_kinds()


@pytest.fixture(params=["kernel", "torch"])
def _arithmetic(request: pytest.FixtureRequest) -> Iterator[None]:
    with no_kernel() if request.param == "torch" else nullcontext():
        if request.param == "kernel" and not kernels():
            pytest.skip("no compiled kernel on this machine")
        yield


def find(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    labels, _ = NearestCentroid(centroids, points.mean(axis=0))(points)
    assert labels.dtype == np.int64
    return labels


@pytest.mark.usefixtures("_arithmetic")
@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_those_of_exact_distances_and_of_ties_the_lowest(kind: str) -> None:
    points = KINDS[kind]
    for centroids in (
        points[::23].copy(),  # rows of the data: duplicates and ties among them
        np.concatenate([points[:12], points[:12][::-1]]),  # every centroid twice
        (points[:20] + points[20:40]) / 2,
    ):
        assert np.array_equal(find(points, centroids), squared(points, centroids).argmin(axis=1))


@pytest.mark.usefixtures("_arithmetic")
def test_a_row_in_the_middle_belongs_to_the_lower_id() -> None:
    centroids = np.array([[5, 1], [3, 0], [-3, 0], [-3, 0]], np.float32)
    points = np.array([[0, 0], [0, -7], [-1e-3, -7], [-3, 0], [5, 1]], np.float32)
    assert find(points, centroids).tolist() == [1, 1, 2, 2, 0]


@pytest.mark.usefixtures("_arithmetic")
def test_one_centroid() -> None:
    assert find(blobs(50), blobs(1)).tolist() == [0] * 50


@pytest.mark.usefixtures("_arithmetic")
@pytest.mark.parametrize("kind", KINDS)
def test_the_floor_is_below_the_score_of_the_own_centroid(kind: str) -> None:
    points = KINDS[kind]
    centroids, centre = points[::29].copy(), points.mean(axis=0)
    labels, floor = NearestCentroid(centroids, centre)(points)
    rows, own = points.astype(np.float64) - centre, (centroids.astype(np.float64) - centre)[labels]
    scores = (rows * own).sum(axis=1) - (own**2).sum(axis=1) / 2
    assert (floor <= scores).all()
    scale = (rows**2).sum(axis=1) + (own**2).sum(axis=1).max()
    assert (scores - floor < 0.1 * scale).all(), "a floor so low would be of no use"


@pytest.mark.usefixtures("_arithmetic")
def test_a_row_knows_nothing_of_the_others_or_of_threads() -> None:
    points, centroids = blobs(800, 30), blobs(50, 30, seed=1)
    nearest = NearestCentroid(centroids, points.mean(axis=0))
    whole, _ = nearest(points)
    parts = [nearest(points[start : start + 93])[0] for start in range(0, 800, 93)]
    assert np.array_equal(np.concatenate(parts), whole)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert np.array_equal(nearest(points)[0], whole)
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("_arithmetic")
def test_no_row_and_a_centre_far_away_change_nothing() -> None:
    points, centroids = blobs(400), blobs(30, seed=1)
    for centre in (np.zeros(8, np.float32), np.full(8, 500, np.float32)):
        labels, _ = NearestCentroid(centroids, centre)(points)
        assert np.array_equal(labels, squared(points, centroids).argmin(axis=1))
        assert len(NearestCentroid(centroids, centre)(points[:0])[0]) == 0


def test_squared_distances() -> None:
    points, centroids = unit(blobs(60)), unit(blobs(60, seed=1))
    found = squared_distances(points, centroids)
    assert found.dtype == np.float32
    assert found == pytest.approx(np.diag(squared(points, centroids)), rel=1e-5)
    assert not squared_distances(points, points).any()


@pytest.mark.parametrize("count", [1, 3, 20])
def test_the_nearest_several_and_their_distances(count: int) -> None:
    points, centroids = blobs(300), blobs(20, seed=1)
    exact = squared(points, centroids)
    ids, distances = NearestCentroid(centroids, points.mean(axis=0)).several(points, count)
    assert np.array_equal(ids, exact.argsort(axis=1)[:, :count])
    assert distances == pytest.approx(np.sort(exact, axis=1)[:, :count], rel=1e-5)
    assert ids.dtype == np.int64
    assert distances.dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_of_several_that_are_equally_near_the_lower_id_comes_first(kind: str) -> None:
    points = KINDS[kind]
    centroids = np.concatenate([points[:12], points[:12][::-1]])  # every centroid twice
    ids, _ = NearestCentroid(centroids, points.mean(axis=0)).several(points, 5)
    expected = squared(points, centroids).argsort(axis=1, kind="stable")[:, :5]
    assert np.array_equal(ids, expected)
    assert np.array_equal(ids[:, 0], find(points, centroids))
