from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from cf_lightning.clustering.base import Clustering, Fit
from cf_lightning.clustering.clusterer import Clusterer
from cf_lightning.clustering.hierarchical import ROUNDS, HierarchicalKMeans
from cf_lightning.clustering.lloyd import LloydKMeans
from cf_lightning.clustering.rows import Rows
from cf_lightning.errors import ConfigError
from samples import SQUARE, Recorder, assert_ranks_agree, blobs, fit, inertia_of, squared, unit


def skewed(num_rows: int = 3000, dim: int = 8) -> np.ndarray:
    """Few crowded places and many sparse ones, each with a dense core."""
    rng = np.random.default_rng(0)
    crowds = np.arange(1, 21) ** -1.5
    place = rng.choice(20, num_rows, p=crowds / crowds.sum())
    noise = rng.standard_normal((num_rows, dim)) * rng.choice([0.1, 0.6], (num_rows, 1))
    return (rng.standard_normal((20, dim))[place] + noise).astype(np.float32)


def sizes_of(points: np.ndarray, fitted: Clustering) -> np.ndarray:
    labels = squared(points, fitted.centroids).argmin(axis=1)
    return np.asarray(np.bincount(labels, minlength=len(fitted.centroids)))


def test_four_points_by_hand() -> None:
    start = np.array([[0, 0], [10, 0]], np.float32)
    fitted = fit(HierarchicalKMeans(refine=3), SQUARE, 2, start=start)
    assert fitted.centroids.tolist() == [[0, 1], [10, 1]]
    assert fitted.inertia == [8, 4]
    assert fit(HierarchicalKMeans(refine=0), SQUARE, 2, start=start).inertia == [8]
    fitted = fit(HierarchicalKMeans(refine=0), SQUARE, 4)
    assert sorted(fitted.centroids.tolist()) == SQUARE.tolist()
    assert fitted.inertia == [0]


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_about_as_good_as_lloyd(levels: int) -> None:
    points, ours, theirs = blobs(3000, 16, 60), 0.0, 0.0
    for seed in range(3):
        ours += inertia_of(points, fit(HierarchicalKMeans(levels=levels), points, 60, seed).centroids)
        plain = LloydKMeans(iterations=10, relocate=False, init="random")
        theirs += inertia_of(points, fit(plain, points, 60, seed).centroids)
    assert ours < 1.02 * theirs


def test_the_history_is_that_of_the_iterations_over_all_clusters() -> None:
    points, watch = blobs(900, 8, 20), Recorder()
    fitted = fit(HierarchicalKMeans(refine=3), points, 20, watch=watch)
    assert fitted.inertia == list(watch.inertia.values())
    for number, inertia in enumerate(fitted.inertia):
        before = fit(HierarchicalKMeans(refine=number), points, 20)
        assert inertia == pytest.approx(inertia_of(points, before.centroids), rel=1e-6)


def test_without_iterations_over_all_it_is_a_bound_of_the_division() -> None:
    points, watch = blobs(900, 8, 20), Recorder()
    fitted = fit(HierarchicalKMeans(refine=0), points, 20, watch=watch)
    assert fitted.inertia == list(watch.inertia.values())
    assert len(fitted.inertia) == 1
    reached = inertia_of(points, fitted.centroids)
    assert reached <= fitted.inertia[0] <= 1.5 * reached


@pytest.mark.parametrize("refine", [0, 5])
@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("bounds", [{"min_size": 20}, {"max_size": 80}, {"min_size": 20, "max_size": 100}])
def test_sizes_come_within_their_bounds(bounds: dict[str, int], spherical: bool, refine: int) -> None:
    points = unit(skewed()) if spherical else skewed()
    settings: dict[str, Any] = {"spherical": spherical, "refine": refine}
    least, most = bounds.get("min_size", 0), bounds.get("max_size", 3000)
    free = fit(HierarchicalKMeans(**settings), points, 60)
    assert (sizes_of(points, free) < least).any() or (sizes_of(points, free) > most).any()
    bound = fit(HierarchicalKMeans(**settings, **bounds), points, 60)
    sizes = sizes_of(points, bound)
    assert least <= sizes.min() <= sizes.max() <= most
    assert len(bound.centroids) == 60
    assert inertia_of(points, bound.centroids) < 1.5 * inertia_of(points, free.centroids)
    assert bound.inertia[-1] == pytest.approx(inertia_of(points, bound.centroids), rel=1e-5)


def test_bounds_that_hold_change_nothing() -> None:
    points = blobs(600)
    free = fit(HierarchicalKMeans(), points, 12)
    bound = fit(HierarchicalKMeans(min_size=1, max_size=599), points, 12)
    assert bound.centroids.tobytes() == free.centroids.tobytes()
    assert bound.inertia[:-1] == free.inertia


def test_parts_by_hand() -> None:
    def parts(sizes: list[int], **bounds: int) -> list[int]:
        found: list[int] = HierarchicalKMeans(**bounds)._parts(np.array(sizes)).tolist()
        return found

    assert parts([3, 4, 4], min_size=2, max_size=4) == [1, 1, 1]
    assert parts([1, 7, 4], min_size=2, max_size=4) == [0, 2, 1]
    assert parts([1, 9, 6], min_size=2) == [0, 2, 1]
    assert parts([1, 1, 9, 9], min_size=2) == [0, 0, 2, 2]
    assert parts([1, 0, 18, 2], min_size=2) == [0, 0, 3, 1]
    assert parts([2, 9, 3], max_size=5) == [0, 2, 1], "the smallest gives its centroid away"
    assert parts([5, 5, 2], max_size=4) == [1, 2, 0], "there are not enough for both"
    assert parts([2, 5, 5], min_size=3) == [1, 1, 1], "nobody has rows for one more"


def test_parts_always_add_up() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        k = int(rng.integers(1, 20))
        sizes = rng.integers(0, 30, k) ** rng.integers(1, 3)
        least, most = int(rng.integers(1, 10)), int(rng.integers(10, 40))
        if not k * least <= sizes.sum() <= k * most:
            continue
        parts = HierarchicalKMeans(min_size=least, max_size=most)._parts(sizes)
        assert parts.sum() == k
        assert parts.min() >= 0
        assert (parts <= np.maximum(sizes, 1)).all()


def test_what_stays_outside_the_bounds_is_said(caplog: pytest.LogCaptureFixture) -> None:
    points = np.concatenate([blobs(100), np.repeat(blobs(1, seed=1), 50, axis=0)])  # 50 alike
    fitted = fit(HierarchicalKMeans(max_size=30), points, 10)
    assert sizes_of(points, fitted).max() >= 50
    assert "of 10 clusters 0 have fewer rows than min_size=None and 1 more than max_size=30" in caplog.text
    assert len(fitted.inertia) <= 5 + ROUNDS + 1


def test_bounds_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(ValidationError, match="less than min_size=9"):
        HierarchicalKMeans(min_size=9, max_size=8)
    with pytest.raises(ConfigError, match=r"min_size=11: choose up to 10, or another k: 9 clusters"):
        fit(HierarchicalKMeans(min_size=11), blobs(97), 9)
    with pytest.raises(ConfigError, match=r"cluster\.engine\.max_size=10: choose 11 or more"):
        fit(HierarchicalKMeans(max_size=10), blobs(97), 9)
    for wrong in ({"levels": 1}, {"refine": -1}, {"min_size": 0}, {"init": "random"}):
        with pytest.raises(ValidationError):
            HierarchicalKMeans.model_validate(wrong)


def test_an_interrupted_fit_continues_to_the_same_bits(tmp_path: Path) -> None:
    points, engine = skewed(), HierarchicalKMeans(min_size=20)
    with pytest.raises(Recorder.Stop):
        fit(engine, points, 60, folder=tmp_path, watch=Recorder(stop_in=3))
    kept = (tmp_path / "division.npz").stat().st_mtime_ns
    continued, whole = fit(engine, points, 60, folder=tmp_path), fit(engine, points, 60)
    assert continued.centroids.tobytes() == whole.centroids.tobytes()
    assert continued.inertia == whole.inertia
    assert (tmp_path / "division.npz").stat().st_mtime_ns == kept


def test_the_size_of_blocks_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    points, engine = skewed(), HierarchicalKMeans(levels=3, min_size=20, max_size=100)
    whole = fit(engine, points, 60)
    monkeypatch.setattr(Rows, "BLOCK_BYTES", 4 * 8 * 199)  # rows; the first level's clusters have more
    assert fit(engine, points, 60).centroids.tobytes() == whole.centroids.tobytes()


def test_levels_save_products() -> None:
    plain = LloydKMeans(iterations=5).num_products(10**8, 10**6)
    two, three = (HierarchicalKMeans(levels=levels, refine=0) for levels in (2, 3))
    assert two.num_products(10**8, 10**6) == 10**8 * 2 * 5 * 1000 < plain / 100
    assert three.num_products(10**8, 10**6) == 10**8 * 3 * 5 * 100


CASES = {
    "two levels": (blobs(600), HierarchicalKMeans(), 20),
    "three levels": (blobs(900, 8, 30), HierarchicalKMeans(levels=3, refine=2), 60),
    "no refinement": (blobs(600), HierarchicalKMeans(refine=0), 20),
    "spherical": (unit(blobs(600)), HierarchicalKMeans(spherical=True), 20),
    "balanced": (skewed(), HierarchicalKMeans(min_size=20, max_size=100), 60),
    "signed zeros": (np.where(np.abs(blobs(60)) < 1, np.float32(-0.0), blobs(60)), HierarchicalKMeans(), 60),
    "fewer rows than ranks": (blobs(2), HierarchicalKMeans(), 2),
}


def run_all(folder: Path) -> None:
    for case, (points, engine, k) in CASES.items():
        every = np.arange(len(points))
        found = Clusterer(k=k, engine=engine).cluster(points, every, every[:0], Fit())
        np.savez(
            folder / f"{case}.npz", centroids=found.centroids, labels=found.labels, inertia=found.inertia
        )


@pytest.mark.slow
@pytest.mark.parametrize("num_ranks", [2, 3])
def test_any_number_of_ranks_gives_the_same_bits_to_each(num_ranks: int, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    run_all(tmp_path / "alone")
    assert_ranks_agree("test_hierarchical", num_ranks, tmp_path, list(CASES))
