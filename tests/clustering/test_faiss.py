import itertools
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from cf_lightning.clustering.faiss import FaissKMeans
from samples import SQUARE, blobs, fit, inertia_of, unit


def test_four_points_by_hand() -> None:
    fitted = fit(FaissKMeans(iterations=10, restarts=8), SQUARE, k=2)
    order = fitted.centroids[:, 0].argsort()
    assert fitted.centroids[order].tolist() == [[0, 1], [10, 1]]
    assert len(fitted.inertia) == 10
    assert fitted.inertia[-1] == pytest.approx(4)


def test_inertia_is_of_the_centroids_that_an_iteration_began_with_and_never_rises() -> None:
    points = blobs(600)
    inertia = fit(FaissKMeans(iterations=8), points, k=10, seed=1).inertia
    assert len(inertia) == 8
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in itertools.pairwise(inertia))
    one_less = fit(FaissKMeans(iterations=7), points, k=10, seed=1).centroids
    assert inertia[-1] == pytest.approx(inertia_of(points, one_less), rel=1e-5)


def test_restarts_keep_the_best_fit_and_its_inertia_alone() -> None:
    points = blobs(600)
    gained = 0
    for seed in range(5):
        once = fit(FaissKMeans(iterations=5), points, 12, seed)
        best = fit(FaissKMeans(iterations=5, restarts=10), points, 12, seed)
        assert len(best.inertia) == 5
        assert best.inertia[-1] <= once.inertia[-1]
        gained += best.inertia[-1] < once.inertia[-1]
    assert gained >= 3


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    points = blobs(5000, 32)
    engine = FaissKMeans(iterations=5)
    first, again, other = (fit(engine, points, 40, seed) for seed in (3, 3, 4))
    assert first.centroids.tobytes() == again.centroids.tobytes()
    assert first.inertia == again.inertia
    assert first.centroids.tobytes() != other.centroids.tobytes()


def test_never_subsamples_on_its_own() -> None:
    # with faiss's default of 256 points a centroid the second group would hardly count
    points = np.concatenate([np.zeros((3000, 2)), np.ones((1000, 2))]).astype(np.float32)
    fitted = fit(FaissKMeans(iterations=1), points, k=1)
    assert fitted.centroids[0] == pytest.approx([0.25, 0.25], abs=1e-6)


@pytest.mark.parametrize("spherical", [False, True])
def test_as_many_clusters_as_rows(spherical: bool) -> None:
    points = unit(blobs(20))
    fitted = fit(FaissKMeans(spherical=spherical), points, k=20)
    assert fitted.inertia == [0]
    assert inertia_of(points, fitted.centroids) == pytest.approx(0, abs=1e-5)


def test_duplicates_leave_finite_centroids() -> None:
    points = np.repeat(SQUARE[:2], 50, axis=0)
    fitted = fit(FaissKMeans(iterations=5), points, k=5)
    assert np.isfinite(fitted.centroids).all()
    assert inertia_of(points, fitted.centroids) < 1e-2


def test_spherical_inertia_is_in_squared_distances() -> None:
    points = unit(blobs(600))
    fitted = fit(FaissKMeans(iterations=6, spherical=True), points, k=7)
    before = fit(FaissKMeans(iterations=5, spherical=True), points, 7).centroids
    assert fitted.inertia[-1] == pytest.approx(inertia_of(points, before), rel=1e-4)
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
from cf_lightning.clustering.base import Fit
from cf_lightning.clustering.faiss import FaissKMeans
from cf_lightning.clustering.rows import Rows

points = np.random.default_rng(0).standard_normal((2000, 16), dtype=np.float32)
rows = Rows(points, np.arange(2000))
a = FaissKMeans(iterations=3).fit(rows, 20, 0, Fit()).centroids
torch.nn.Conv2d(3, 8, 3)(torch.randn(4, 3, 32, 32)).sum().backward()
b = FaissKMeans(iterations=3).fit(rows, 20, 0, Fit()).centroids
assert a.tobytes() == b.tobytes()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
