"""Every file in conf/cluster/engine keeps the contract, and the exact engines agree."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cf_lightning.clustering.base import Fit, KMeans
from cf_lightning.clustering.faiss import FaissKMeans
from cf_lightning.clustering.lloyd import LloydKMeans
from cf_lightning.clustering.rows import Rows
from cf_lightning.config import build, conf_dir
from samples import Recorder, blobs, fit, inertia_of, rows_of, squared, unit

ENGINES = sorted(file.stem for file in (conf_dir() / "cluster" / "engine").glob("*.yaml"))


@pytest.fixture(params=ENGINES)
def make(request: pytest.FixtureRequest, compose: Callable[..., dict[str, Any]]) -> Callable[..., KMeans]:
    """The engine as its YAML file has it, with a few settings changed."""
    node = compose("+experiment=demo", f"cluster/engine={request.param}")["cluster"]["engine"]

    def engine(**settings: Any) -> KMeans:
        built = build({**node, "iterations": 10, **settings}, "cluster.engine")
        assert isinstance(built, KMeans)
        return built

    return engine


def test_finds_blobs_and_says_what_it_did(make: Callable[..., KMeans]) -> None:
    points, watch = blobs(600), Recorder()
    fitted = fit(make(), points, 12, watch=watch)
    assert fitted.centroids.shape == (12, 8)
    assert fitted.centroids.dtype == np.float32
    assert fitted.centroids.flags.c_contiguous
    assert np.isfinite(fitted.centroids).all()
    assert len(fitted.inertia) >= 1
    assert list(watch.inertia.values()) == fitted.inertia
    reached, noise_alone = inertia_of(points, fitted.centroids), 600 * 8
    assert reached < 1.5 * noise_alone < 0.5 * inertia_of(points, points.mean(axis=0, keepdims=True))
    assert reached <= fitted.inertia[0]


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(make: Callable[..., KMeans]) -> None:
    points = blobs(900, 16, 30)
    first, again, other = (fit(make(), points, 25, seed) for seed in (3, 3, 4))
    assert first.centroids.tobytes() == again.centroids.tobytes()
    assert first.inertia == again.inertia
    assert first.centroids.tobytes() != other.centroids.tobytes()


def test_some_rows_of_a_file_are_as_good_as_an_array_of_them(
    make: Callable[..., KMeans], tmp_path: Path
) -> None:
    points = blobs(900)
    np.save(tmp_path / "f.npy", points)
    file = np.load(tmp_path / "f.npy", mmap_mode="r")
    for numbers in (np.flatnonzero(np.arange(900) % 3), np.arange(200, 700)):
        from_file = make().fit(Rows(file, numbers), 10, 0, Fit())
        assert from_file.centroids.tobytes() == fit(make(), points[numbers], 10).centroids.tobytes()


def test_as_many_clusters_as_rows(make: Callable[..., KMeans]) -> None:
    points = blobs(20)
    fitted = fit(make(), points, 20)
    distances = squared(points, fitted.centroids)
    assert sorted(distances.argmin(axis=1)) == list(range(20))
    assert distances.min(axis=1) == pytest.approx(np.zeros(20), abs=1e-8)
    assert fitted.inertia[-1] == pytest.approx(0, abs=1e-6)


def test_one_cluster_is_the_mean(make: Callable[..., KMeans]) -> None:
    points = blobs()
    reached = inertia_of(points, fit(make(), points, 1).centroids)
    assert reached <= 1.01 * inertia_of(points, points.mean(axis=0, keepdims=True))


def test_spherical_centroids_have_norm_one(make: Callable[..., KMeans]) -> None:
    points = unit(blobs(600))
    fitted = fit(make(spherical=True), points, 7)
    assert np.linalg.norm(fitted.centroids, axis=1) == pytest.approx(np.ones(7), abs=1e-5)
    assert inertia_of(points, fitted.centroids) < 0.3 * inertia_of(points, points.mean(axis=0, keepdims=True))


def test_duplicates_of_few_rows_leave_finite_centroids(make: Callable[..., KMeans]) -> None:
    points = np.repeat(blobs(6), 50, axis=0)
    fitted = fit(make(), points, 6)
    assert np.isfinite(fitted.centroids).all()
    assert np.isfinite(fitted.inertia).all()


def test_memory_and_time_grow_with_what_they_depend_on(make: Callable[..., KMeans]) -> None:
    engine = make()
    assert 0 < engine.memory_bytes(10**6, 512, 1000) < engine.memory_bytes(10**6, 512, 10**5)
    assert 0 < engine.num_products(1000, 10) < engine.num_products(10**6, 10)


@pytest.mark.parametrize("iterations", [1, 10])
@pytest.mark.parametrize("spherical", [False, True])
def test_lloyd_and_faiss_agree_from_the_same_start(iterations: int, spherical: bool) -> None:
    points = blobs(900, 16, 20)
    points = unit(points) if spherical else points
    start = points[::45].copy()
    common: dict[str, Any] = {"iterations": iterations, "spherical": spherical}
    ours = fit(LloydKMeans(**common, relocate=False), points, 20, start=start)
    theirs = fit(FaissKMeans(**common), points, 20, start=start)
    assert ours.centroids == pytest.approx(theirs.centroids, abs=1e-4)
    assert ours.inertia == pytest.approx(theirs.inertia[: len(ours.inertia)], rel=1e-4)
    one, other = squared(points, ours.centroids), squared(points, theirs.centroids)
    differ = np.flatnonzero(one.argmin(axis=1) != other.argmin(axis=1))
    two_best = np.sort(one[differ], axis=1)[:, :2]
    assert (two_best[:, 1] - two_best[:, 0] < 1e-3).all()
    assert len(differ) < 5


def test_no_engine_takes_more_memory_than_it_says_for_its_rows() -> None:
    # of a file larger than memory lloyd keeps a few numbers for each row, faiss the row itself
    n, k = 10**7, 1000
    for dim in (256, 2048):
        lloyd, faiss = LloydKMeans(), FaissKMeans()
        per_row = (lloyd.memory_bytes(2 * n, dim, k) - lloyd.memory_bytes(n, dim, k)) / n
        assert per_row <= 32
        assert faiss.memory_bytes(2 * n, dim, k) - faiss.memory_bytes(n, dim, k) == n * dim * 4


def test_importing_an_engine_imports_no_library() -> None:
    modules = {
        line.split()[-1].rpartition(".")[0]
        for file in (conf_dir() / "cluster" / "engine").glob("*.yaml")
        for line in file.read_text().splitlines()
        if line.startswith("_target_:")
    }
    code = f"""
import sys
import {", ".join(sorted(modules))}
import cf_lightning.stages.cluster, cf_lightning.stages.space
heavy = set("faiss torch lightning sklearn scipy matplotlib torchvision torchmetrics".split())
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rows_are_read_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    points = blobs(100)
    monkeypatch.setattr(Rows, "BLOCK_BYTES", 7 * 4 * 8)
    rows = Rows(points, np.arange(0, 100, 2))
    parts = list(rows.blocks(3, 40))
    assert [start for start, _ in parts] == list(range(3, 40, 7))
    assert np.array_equal(np.concatenate([block for _, block in parts]), points[6:80:2])
    monkeypatch.setattr(Rows, "BLOCK_BYTES", 1)
    assert [len(block) for _, block in rows_of(points).blocks()] == [1] * 100
    assert list(rows.blocks(5, 5)) == []
    assert np.array_equal(rows.take(np.array([1, 4])).load(), points[[2, 8]])
