import numpy as np
import pytest

from cf_lightning.clustering.group import ALONE
from cf_lightning.clustering.loop import LloydLoop
from cf_lightning.clustering.sums import ClusterSums, Moments
from samples import hard_kinds, no_kernel, rows_of, squared

KINDS = hard_kinds()
K = 7


def labels_of(points: np.ndarray, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(K, size=len(points))


def summed(points: np.ndarray, labels: np.ndarray, order: np.ndarray, block: int) -> ClusterSums:
    moments = Moments.of(rows_of(points))
    sums = ClusterSums(K, rows_of(points), moments.largest)
    for start in range(0, len(order), block):
        part = order[start : start + block]
        sums.add(points[part], moments.squares[part], labels[part])
    sums.commit()
    return sums


def bits(sums: ClusterSums) -> list[bytes]:
    return [sums.sums.tobytes(), sums.squares.tobytes(), sums.counts.tobytes()]


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_rows_makes_no_difference(kind: str) -> None:
    points = KINDS[kind]
    labels, n = labels_of(points), len(points)
    expected = bits(summed(points, labels, np.arange(n), n))
    for seed, block in enumerate((1, 17, n)):
        order = np.random.default_rng(seed).permutation(n)
        assert bits(summed(points, labels, order, block)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_kernel_makes_no_difference(kind: str) -> None:
    points = KINDS[kind]
    labels, order = labels_of(points), np.arange(len(points))
    fast = summed(points, labels, order, 100)
    with no_kernel():
        slow = summed(points, labels, order, 100)
    assert fast.sums.tobytes() == slow.sums.tobytes()
    assert fast.counts.tobytes() == slow.counts.tobytes()
    assert fast.squares == pytest.approx(slow.squares, rel=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_taken_away_leaves_no_trace(kind: str) -> None:
    points = KINDS[kind]
    labels, other = labels_of(points), labels_of(points, seed=1)
    squares = Moments.of(rows_of(points)).squares
    order = np.arange(len(points))
    sums = summed(points, labels, order, 50)
    for _ in range(3):
        sums.add(points, squares, other)
        sums.add(points, squares, labels, sign=-1)
        sums.commit()
        labels, other = other, labels
    assert bits(sums) == bits(summed(points, labels, order, 50))
    sums.add(points, squares, labels, sign=-1)
    sums.commit()
    assert not sums.sums.any()
    assert not sums.squares.any()
    assert not sums.counts.any()


@pytest.mark.parametrize("kind", KINDS)
def test_means_and_inertia_are_right(kind: str) -> None:
    points = KINDS[kind]
    labels = labels_of(points)
    sums = summed(points, labels, np.arange(len(points)), 50)
    members = [points[labels == cluster].astype(np.float64) for cluster in range(K)]
    assert sums.counts.tolist() == [len(rows) for rows in members]
    largest = float(abs(points).max())
    means = np.array([rows.mean(axis=0) for rows in members])
    assert sums.means() == pytest.approx(means, abs=1e-11 * largest)
    centroids = means.astype(np.float32)
    expected = [squared(rows, centroids[[c]]).sum() for c, rows in enumerate(members)]
    norms = float((points.astype(np.float64) ** 2).sum())
    assert sums.inertia(centroids) == pytest.approx(expected, abs=1e-13 * norms)


def test_moments() -> None:
    points = KINDS["offset"]
    moments = Moments.of(rows_of(points))
    norms = (points.astype(np.float64) ** 2).sum(axis=1)
    assert moments.squares == pytest.approx(norms, rel=1e-14)
    assert moments.largest == pytest.approx(np.sqrt(norms.max()), rel=1e-14)
    assert moments.mean.dtype == np.float32
    assert moments.mean == pytest.approx(points.mean(axis=0, dtype=np.float64), rel=1e-6)


def test_rows_of_zeros_have_sums_too() -> None:
    points = np.zeros((5, 3), np.float32)
    sums = summed(points, np.zeros(5, np.int64), np.arange(5), 2)
    assert sums.counts[0] == 5
    assert not sums.means().any()
    assert sums.inertia(np.ones((K, 3), np.float32))[0] == pytest.approx(15)


@pytest.mark.parametrize("kind", KINDS)
def test_after_many_iterations_the_sums_are_those_of_a_fresh_start(kind: str) -> None:
    points = KINDS[kind]
    loop = LloydLoop(rows_of(points), points[:K].copy(), ALONE, "cpu")
    stood_still = 0
    for _ in range(25):
        loop.assign()
        before = loop.centroids
        assert np.array_equal(loop.labels, squared(points, before).argmin(axis=1))
        loop.update()
        stood_still += (loop.centroids == before).all(axis=1).any() and not (loop.centroids == before).all()
    loop.assign()
    assert bits(loop.clusters) == bits(summed(points, loop.labels, np.arange(len(points)), 50))
    fresh = LloydLoop(rows_of(points), loop.centroids, ALONE, "cpu")
    assert fresh.assign() == len(points)
    assert np.array_equal(fresh.labels, loop.labels)
    assert fresh.inertia() == loop.inertia()
    if kind == "blobs":
        assert stood_still, "rows whose centroid stood still were never left out"
