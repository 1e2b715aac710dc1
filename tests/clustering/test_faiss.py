import itertools
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from cf_lightning.clustering.faiss import FaissKMeans

SQUARE = np.array([[0, 0], [0, 2], [10, 0], [10, 2]], np.float32)


def blobs(num_rows: int = 600, dim: int = 8, num_blobs: int = 6, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((num_blobs, dim)) * 3
    points = centres[rng.integers(num_blobs, size=num_rows)] + rng.standard_normal((num_rows, dim))
    return points.astype(np.float32)


def unit(points: np.ndarray) -> np.ndarray:
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


def squared(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """(n, K) float64, the slow way."""
    differences = points[:, None].astype(np.float64) - centroids[None]
    return np.asarray((differences**2).sum(axis=2))


def test_four_points_by_hand() -> None:
    fitted = FaissKMeans(iterations=10, restarts=8).fit(SQUARE, k=2, seed=0, device="cpu")
    order = fitted.centroids[:, 0].argsort()
    assert fitted.centroids[order].tolist() == [[0, 1], [10, 1]]
    assert len(fitted.inertia) == 10
    assert fitted.inertia[-1] == pytest.approx(4)


def test_inertia_is_of_the_centroids_that_an_iteration_began_with_and_never_rises() -> None:
    points = blobs()
    inertia = FaissKMeans(iterations=8).fit(points, k=10, seed=1, device="cpu").inertia
    assert len(inertia) == 8
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in itertools.pairwise(inertia))
    one_less = FaissKMeans(iterations=7).fit(points, k=10, seed=1, device="cpu").centroids
    assert inertia[-1] == pytest.approx(squared(points, one_less).min(axis=1).sum(), rel=1e-5)


def test_restarts_keep_the_best_fit_and_its_inertia_alone() -> None:
    points = blobs()
    gained = 0
    for seed in range(5):
        once = FaissKMeans(iterations=5).fit(points, 12, seed, "cpu")
        best = FaissKMeans(iterations=5, restarts=10).fit(points, 12, seed, "cpu")
        assert len(best.inertia) == 5
        assert best.inertia[-1] <= once.inertia[-1]
        gained += best.inertia[-1] < once.inertia[-1]
    assert gained >= 3


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    points = blobs(5000, 32)
    engine = FaissKMeans(iterations=5)
    first, again, other = (engine.fit(points, 40, seed, "cpu") for seed in (3, 3, 4))
    assert first.centroids.tobytes() == again.centroids.tobytes()
    assert first.inertia == again.inertia
    assert first.centroids.tobytes() != other.centroids.tobytes()


def test_never_subsamples_on_its_own() -> None:
    # with faiss's default of 256 points a centroid the second group would hardly count
    points = np.concatenate([np.zeros((3000, 2)), np.ones((1000, 2))]).astype(np.float32)
    fitted = FaissKMeans(iterations=1).fit(points, k=1, seed=0, device="cpu")
    assert fitted.centroids[0] == pytest.approx([0.25, 0.25], abs=1e-6)


@pytest.mark.parametrize("spherical", [False, True])
def test_as_many_clusters_as_rows(spherical: bool) -> None:
    points = unit(blobs(20))
    engine = FaissKMeans(spherical=spherical)
    fitted = engine.fit(points, k=20, seed=0, device="cpu")
    assert fitted.inertia == [0]
    labels, distances = next(engine.assign([points], fitted.centroids, "cpu"))
    assert sorted(labels) == list(range(20))
    assert distances == pytest.approx(np.zeros(20), abs=1e-5)


def test_duplicates_leave_finite_centroids() -> None:
    points = np.repeat(SQUARE[:2], 50, axis=0)
    engine = FaissKMeans(iterations=5)
    fitted = engine.fit(points, k=5, seed=0, device="cpu")
    assert np.isfinite(fitted.centroids).all()
    labels, distances = next(engine.assign([points], fitted.centroids, "cpu"))
    assert labels.min() >= 0
    assert distances.max() < 1e-3


@pytest.mark.parametrize("spherical", [False, True])
def test_assigns_the_nearest_centroid_chunk_by_chunk(spherical: bool) -> None:
    points = unit(blobs(700, 16))
    centroids = unit(blobs(30, 16, seed=1))
    chunks = [points[:300], points[300:310], points[310:]]
    found = list(FaissKMeans(spherical=spherical).assign(iter(chunks), centroids, "cpu"))
    assert [len(labels) for labels, _ in found] == [300, 10, 390]
    labels, distances = (np.concatenate(part) for part in zip(*found, strict=True))
    slow = squared(points, centroids)
    assert labels.dtype == np.int64
    assert distances.dtype == np.float32
    assert np.array_equal(labels, slow.argmin(axis=1))
    assert distances == pytest.approx(slow.min(axis=1), abs=1e-5)


def test_spherical_centroids_have_norm_one_and_inertia_is_in_squared_distances() -> None:
    points = unit(blobs())
    engine = FaissKMeans(iterations=6, spherical=True)
    fitted = engine.fit(points, k=7, seed=0, device="cpu")
    assert np.linalg.norm(fitted.centroids, axis=1) == pytest.approx(np.ones(7), abs=1e-5)
    before = FaissKMeans(iterations=5, spherical=True).fit(points, 7, 0, "cpu").centroids
    assert fitted.inertia[-1] == pytest.approx(squared(points, before).min(axis=1).sum(), rel=1e-4)
    assert fitted.inertia[-1] < fitted.inertia[0]


def test_settings_have_ranges() -> None:
    for wrong in ({"iterations": 0}, {"restarts": 0}, {"iterations": 2.5}, {"metric": "cosine"}):
        with pytest.raises(ValidationError):
            FaissKMeans.model_validate(wrong)


@pytest.mark.parametrize("first", ["import torch, faiss", "import faiss, torch"])
def test_torch_and_faiss_share_a_process_in_either_order(first: str) -> None:
    code = f"""
{first}
import numpy as np
from cf_lightning.clustering.faiss import FaissKMeans

points = np.random.default_rng(0).standard_normal((2000, 16), dtype=np.float32)
a = FaissKMeans(iterations=3).fit(points, 20, 0, "cpu").centroids
torch.nn.Conv2d(3, 8, 3)(torch.randn(4, 3, 32, 32)).sum().backward()
b = FaissKMeans(iterations=3).fit(points, 20, 0, "cpu").centroids
assert a.tobytes() == b.tobytes()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_engine_imports_no_library() -> None:
    code = """
import sys
import cf_lightning.clustering.faiss, cf_lightning.stages.cluster
assert not {"faiss", "torch", "lightning"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
