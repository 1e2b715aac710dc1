import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.cluster import MiniBatchKMeans as Reference

from cf_lightning.clustering.lloyd import LloydKMeans
from cf_lightning.clustering.minibatch import MiniBatchKMeans
from samples import SQUARE, blobs, fit, inertia_of, unit


def test_four_points_by_hand() -> None:
    start = np.array([[0, 0], [10, 0]], np.float32)
    fitted = fit(MiniBatchKMeans(iterations=2), SQUARE, 2, start=start)
    assert fitted.centroids.tolist() == [[0, 1], [10, 1]]
    assert fitted.inertia == [8, 4]
    assert start.tolist() == [[0, 0], [10, 0]]


def test_is_what_scikit_learn_does() -> None:
    points = blobs(600)
    start = points[:12].copy()
    reference = Reference(12, init=start, n_init=1, batch_size=600, random_state=0)
    for _ in range(4):
        reference.partial_fit(points)
    fitted = fit(MiniBatchKMeans(iterations=4, batch_size=1000), points, 12, start=start)
    assert np.array_equal(fitted.centroids, reference.cluster_centers_)


@pytest.mark.parametrize("batch_size", [7, 500, 10_000])
def test_a_pass_sees_every_row_once(batch_size: int) -> None:
    points = blobs(500)
    for iterations in (1, 3):
        fitted = fit(MiniBatchKMeans(iterations=iterations, batch_size=batch_size), points, 1)
        assert fitted.centroids[0] == pytest.approx(points.mean(axis=0), abs=1e-4)


def test_the_history_is_the_exact_inertia_before_each_pass() -> None:
    points = blobs(900, 8, 20)
    inertia = fit(MiniBatchKMeans(iterations=4, batch_size=50), points, 20).inertia
    assert len(inertia) == 4
    for passes in (1, 2, 3):
        before = fit(MiniBatchKMeans(iterations=passes, batch_size=50), points, 20)
        assert inertia[passes] == pytest.approx(inertia_of(points, before.centroids), rel=1e-5)


@pytest.mark.parametrize("init", ["random", "kmeans++"])
def test_not_far_behind_lloyd_from_the_same_start(init: str) -> None:
    points, ours, theirs = blobs(3000, 16, 60), 0.0, 0.0
    for seed in range(3):
        engine = MiniBatchKMeans.model_validate({"init": init, "batch_size": 512})
        plain = LloydKMeans.model_validate({"init": init, "relocate": False})
        ours += inertia_of(points, fit(engine, points, 60, seed).centroids)
        theirs += inertia_of(points, fit(plain, points, 60, seed).centroids)
    assert ours < 1.05 * theirs


def test_batches_may_have_fewer_rows_than_there_are_clusters() -> None:
    points = blobs(300)
    fitted = fit(MiniBatchKMeans(batch_size=10), points, 40)
    assert inertia_of(points, fitted.centroids) < fitted.inertia[0] * 1.01


def test_forlorn_centroids_come_back_if_asked_to() -> None:
    points = blobs(600)
    start = np.concatenate([points[:9], np.full((1, 8), 1000, np.float32)])
    for ratio, is_forlorn in ((0.0, True), (0.01, False)):
        engine = MiniBatchKMeans(iterations=3, batch_size=100, reassignment_ratio=ratio)
        centroids = fit(engine, points, 10, start=start).centroids
        assert (centroids.max() == 1000) == is_forlorn


def test_spherical_centroids_stay_on_the_sphere() -> None:
    points = unit(blobs(600))
    start = 3 * points[:8]
    fitted = fit(MiniBatchKMeans(iterations=3, batch_size=100, spherical=True), points, 8, start=start)
    assert np.linalg.norm(fitted.centroids, axis=1) == pytest.approx(np.ones(8), abs=1e-6)
    assert inertia_of(points, fitted.centroids) < inertia_of(points, points[:8])


def test_settings_have_ranges() -> None:
    for wrong in ({"batch_size": 0}, {"reassignment_ratio": -0.1}, {"init": "two_level"}, {"n_init": 3}):
        with pytest.raises(ValidationError):
            MiniBatchKMeans.model_validate(wrong)
