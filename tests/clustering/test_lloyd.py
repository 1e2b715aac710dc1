import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from cf_lightning.clustering.base import Clustering
from cf_lightning.clustering.kernel import kernels
from cf_lightning.clustering.lloyd import LloydKMeans
from cf_lightning.clustering.rows import Rows
from cf_lightning.errors import ConfigError
from samples import SQUARE, Recorder, blobs, fit, hard_kinds, inertia_of, no_kernel, squared, unit

KINDS = hard_kinds()


def bits(fitted: Clustering) -> bytes:
    return fitted.centroids.tobytes()


def engine(**settings: Any) -> LloydKMeans:
    return LloydKMeans(**{"iterations": 12, **settings})


def test_four_points_by_hand() -> None:
    fitted = fit(engine(), SQUARE, 2, start=SQUARE[[0, 2]])
    assert fitted.centroids.tolist() == [[0, 1], [10, 1]]
    assert fitted.inertia == [8, 4]  # in the second iteration no row changes its cluster: it has arrived


@pytest.mark.parametrize("relocate", [False, True])
def test_inertia_is_of_the_centroids_that_an_iteration_began_with(relocate: bool) -> None:
    points = blobs(600)
    start = points[:10].copy()
    inertia = fit(engine(relocate=relocate), points, 10, start=start).inertia
    assert inertia[0] == pytest.approx(inertia_of(points, start), rel=1e-12)
    shorter = fit(engine(iterations=len(inertia) - 1, relocate=False), points, 10, start=start)
    if not relocate:
        assert inertia[-1] == pytest.approx(inertia_of(points, shorter.centroids), rel=1e-12)
        assert all(later <= earlier for earlier, later in itertools.pairwise(inertia))


@pytest.mark.parametrize("kind", KINDS)
def test_every_iteration_is_the_textbooks(kind: str) -> None:
    points = KINDS[kind]
    k, centroids = 9, KINDS[kind][:9].astype(np.float64)
    fitted = fit(engine(iterations=6, relocate=False), points, k, start=points[:k].copy())
    for inertia in fitted.inertia:
        distances = squared(points, centroids.astype(np.float32))
        norms = float((points.astype(np.float64) ** 2).sum())
        assert inertia == pytest.approx(distances.min(axis=1).sum(), abs=1e-13 * norms)
        labels = distances.argmin(axis=1)
        for cluster in np.unique(labels):
            centroids[cluster] = points[labels == cluster].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(fitted.centroids, centroids, rtol=2e-7, atol=2e-7 * float(abs(points).max()))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        *((kind, engine()) for kind in KINDS),
        ("blobs", engine(relocate=False, init="random")),
        ("blobs", engine(init="kmeans++")),
        ("unit", engine(spherical=True)),
    ],
)
def test_kernel_threads_and_blocks_change_no_bit(
    kind: str, settings: LloydKMeans, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = KINDS[kind]
    expected = fit(settings, points, 12)
    before = torch.get_num_threads()
    monkeypatch.setattr(Rows, "BLOCK_BYTES", 97 * 4 * points.shape[1])
    try:
        torch.set_num_threads(3 - before if before < 3 else 1)
        again = fit(settings, points, 12)
    finally:
        torch.set_num_threads(before)
    assert bits(again) == bits(expected)
    assert again.inertia == expected.inertia
    if kernels():
        with no_kernel():
            slow = fit(settings, points, 12)
        assert bits(slow) == bits(expected)
        norms = float((points.astype(np.float64) ** 2).sum())
        assert slow.inertia == pytest.approx(expected.inertia, abs=1e-13 * norms)


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("relocate", [False, True])
def test_interrupted_anywhere_it_goes_on_to_the_same_bits(
    relocate: bool, spherical: bool, tmp_path: Path
) -> None:
    points = unit(blobs(400, 8, 12)) if spherical else blobs(400, 8, 12)
    settings = engine(iterations=40, relocate=relocate, spherical=spherical, init="random")
    whole = fit(settings, points, 15)
    assert len(whole.inertia) >= 4
    for moment in {1, 2, len(whole.inertia) // 2, len(whole.inertia) - 1, len(whole.inertia)}:
        folder = tmp_path / str(moment)
        folder.mkdir()
        with pytest.raises(Recorder.Stop):
            fit(settings, points, 15, folder=folder, watch=Recorder(stop_in=moment))
        resumed = fit(settings, points, 15, folder=folder)
        assert bits(resumed) == bits(whole)
        assert resumed.inertia == whole.inertia, f"interrupted in iteration {moment}"


def test_interrupted_twice_and_while_it_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = blobs(400, 8, 12)
    whole = fit(engine(), points, 15)
    with pytest.raises(Recorder.Stop):
        fit(engine(), points, 15, folder=tmp_path, watch=Recorder(stop_in=3))

    def stop(*_: Path) -> None:
        raise Recorder.Stop

    with monkeypatch.context() as patch:
        patch.setattr("cf_lightning.clustering.base.os.replace", stop)
        with pytest.raises(Recorder.Stop):
            fit(engine(), points, 15, folder=tmp_path)
    resumed = fit(engine(), points, 15, folder=tmp_path)
    assert (bits(resumed), resumed.inertia) == (bits(whole), whole.inertia)


def test_it_stops_when_it_has_arrived_or_hardly_gains() -> None:
    points = blobs(600)
    arrived = fit(engine(iterations=500, relocate=False), points, 8)
    assert len(arrived.inertia) < 100
    assert bits(fit(engine(iterations=len(arrived.inertia), relocate=False), points, 8)) == bits(arrived)
    slow = fit(engine(iterations=500, relocate=False, tolerance=0.01), points, 8)
    *gains, last = [1 - later / earlier for earlier, later in itertools.pairwise(slow.inertia)]
    assert all(gain >= 0.01 for gain in gains)
    assert last < 0.01
    assert slow.inertia == arrived.inertia[: len(slow.inertia)]


def test_spherical_is_cosine_k_means() -> None:
    points = unit(blobs(600, 8, 10))
    start = points[:10].copy()
    centroids = start.astype(np.float64)
    fitted = fit(engine(iterations=5, spherical=True, relocate=False), points, 10, start=start)
    for inertia in fitted.inertia:
        cosines = points.astype(np.float64) @ centroids.T
        assert inertia == pytest.approx(2 * (600 - cosines.max(axis=1).sum()), rel=1e-5)
        labels = cosines.argmax(axis=1)
        for cluster in np.unique(labels):
            mean = points[labels == cluster].mean(axis=0, dtype=np.float64)
            centroids[cluster] = mean / np.linalg.norm(mean)
    np.testing.assert_allclose(fitted.centroids, centroids, atol=1e-6)


@pytest.mark.parametrize("init", ["random", "two_level"])
def test_spherical_begins_on_the_sphere(init: str) -> None:
    points = unit(blobs(600, 8, 10))
    inertia = fit(engine(iterations=4, spherical=True, init=init, relocate=False), points, 9).inertia
    assert all(later <= earlier for earlier, later in itertools.pairwise(inertia))
    inside = points[:9] / 2
    from_inside = fit(engine(iterations=1, spherical=True), points, 9, start=inside)
    assert from_inside.inertia[0] == pytest.approx(inertia_of(points, points[:9]), rel=1e-5)


def test_a_fit_that_ends_early_has_arrived() -> None:
    ended_early = 0
    for seed in range(6):
        points = blobs(300, 4, 12, seed)
        fitted = fit(engine(iterations=60, init="random"), points, 14, seed)
        if len(fitted.inertia) < 60:
            ended_early += 1
            once_more = fit(engine(iterations=1, relocate=False), points, 14, start=fitted.centroids)
            assert bits(once_more) == bits(fitted)
    assert ended_early


def test_first_centroids_from_a_file(tmp_path: Path) -> None:
    points = blobs(300)
    np.save(tmp_path / "start.npy", points[:5].astype(np.float64))
    from_file = fit(engine(path=str(tmp_path / "start.npy")), points, 5)
    assert bits(from_file) == bits(fit(engine(), points, 5, start=points[:5]))


def test_a_file_that_holds_no_such_centroids(tmp_path: Path) -> None:
    file = tmp_path / "start.npy"
    cases = [np.zeros((4, 8), np.float32), np.zeros((5, 7), np.float32), np.full((5, 8), np.nan, np.float32)]
    for centroids in cases:
        np.save(file, centroids)
        with pytest.raises(ConfigError, match=r"cluster\.engine\.path=.*start\.npy.*\(5, 8\)"):
            fit(engine(path=str(file)), blobs(300), 5)
    whole = file.read_bytes()
    for content in (whole[:-30], b"", b"no array at all"):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=r"cluster\.engine\.path=.*is no \.npy file of centroids"):
            fit(engine(path=str(file)), blobs(300), 5)
    with pytest.raises(ConfigError, match=r"cluster\.engine\.path=.*none\.npy"):
        fit(engine(path=str(tmp_path / "none.npy")), blobs(300), 5)


def test_settings_have_ranges() -> None:
    for wrong in ({"iterations": 0}, {"tolerance": 1.0}, {"tolerance": -0.1}, {"init": "k-means"}):
        with pytest.raises(ValidationError):
            LloydKMeans.model_validate(wrong)


@pytest.mark.filterwarnings("error")
def test_a_file_that_cannot_be_written_to_is_read_without_a_warning(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", blobs(300))
    file = np.load(tmp_path / "f.npy", mmap_mode="r")
    expected = bits(fit(engine(), blobs(300), 7))
    assert bits(fit(engine(), file, 7)) == expected
    with no_kernel():
        assert bits(fit(engine(), file, 7)) == expected
