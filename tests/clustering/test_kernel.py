import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cf_lightning.clustering.kernel import Kernel, kernels

SHAPES = [(1, 1, 1), (7, 3, 2), (37, 31, 17), (90, 257, 33), (300, 100, 1000)]  # n, D, K
SCALES_OFFSETS = [(1, 0), (1, 300), (1e-3, 1), (1e-12, 0), (1e-21, 0), (1e17, 0)]


def compiler(folder: Path, *flags: str) -> str:
    script = folder / "cc"
    script.write_text(f'#!/bin/sh\nexec cc "$@" {" ".join(flags)}\n')
    script.chmod(0o755)
    return str(script)


def load_with(cache: Path, cc: str) -> Kernel | None:
    kernels.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        patch.setenv("CC", cc)
        return next(iter(kernels()), None)


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    kernels.cache_clear()


@pytest.fixture(scope="module", params=["", "-mno-avx512bf16", "-mno-avx512f"])
def kernel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    folder = tmp_path_factory.mktemp("kernel")
    kernel = load_with(folder, compiler(folder, request.param))
    if kernel is None:
        pytest.skip("no compiler, or a processor without AVX2")
    return kernel


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def origin(centroids: np.ndarray) -> np.ndarray:
    return np.zeros(centroids.shape[1], np.float32)


def exact_scores(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    wide = centroids.astype(np.float64)
    return np.asarray(rows.astype(np.float64) @ wide.T - (wide**2).sum(axis=1) / 2)


def is_certain_and_right(kernel: Kernel, rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    labels, best, second, error = kernel.nearest_two(rows, kernel.pack(centroids, origin(centroids)), 1)
    assert labels.dtype == np.int32
    assert {best.dtype, second.dtype, error.dtype} == {np.dtype(np.float32)}
    scores = exact_scores(rows, centroids)
    ranked = np.sort(scores, axis=1)
    assert (abs(best - scores[np.arange(len(rows)), labels]) <= error).all()
    assert (abs(best - ranked[:, -1]) <= error).all()
    if len(centroids) == 1:
        assert (second == -np.inf).all()
    else:
        assert (abs(second - ranked[:, -2]) <= error).all()
    certain = best - second > 2 * error
    assert (labels == scores.argmax(axis=1))[certain].all()
    return np.asarray(certain)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("scale", "offset"), SCALES_OFFSETS)
def test_scores_are_as_near_to_exact_ones_as_the_error_says(
    kernel: Kernel, shape: tuple[int, int, int], scale: float, offset: float
) -> None:
    n, dim, k = shape
    rows, centroids = np.float32(scale) * normal(n, dim), np.float32(scale) * normal(k, dim, seed=1)
    is_certain_and_right(kernel, rows + np.float32(offset), centroids + np.float32(offset))


@pytest.mark.parametrize("scale", [1e-8, 1, 1e8])
def test_most_rows_are_certain(kernel: Kernel, scale: float) -> None:
    rows, centroids = normal(400, 64) * np.float32(scale), normal(20, 64, seed=1) * np.float32(scale)
    certain = is_certain_and_right(kernel, rows, centroids)
    assert certain.mean() > (0.8 if kernel.precision == "bf16" else 0.99)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_error_allows_for_roundings_that_all_go_one_way(kernel: Kernel, sign: int) -> None:
    row = np.full((1, 1024), 1 + 2**-8 - 2**-20, np.float32)  # just less than half way to the next bf16
    centroid = sign * row
    _, best, _, error = kernel.nearest_two(row, kernel.pack(centroid, origin(centroid)), 1)
    missed = abs(best - exact_scores(row, centroid)[:, 0])
    assert missed <= error
    if kernel.precision == "bf16":
        assert missed > 0.9 * error


def test_the_error_allows_for_sums_that_round_one_way(kernel: Kernel) -> None:
    row = np.full((1, 4096), 2**-12, np.float32)  # each is lost beside the first
    row[0, 0] = 2**12 - 2**-12
    centroid = np.ones((1, 4096), np.float32)
    _, best, _, error = kernel.nearest_two(row, kernel.pack(centroid, origin(centroid)), 1)
    assert 0 < abs(best - exact_scores(row, centroid)[:, 0]) <= error


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, 3.4e38])
def test_what_float32_cannot_hold_has_an_infinite_error_and_harms_no_other_row(
    kernel: Kernel, value: float
) -> None:
    rows, packed = normal(30, 20), kernel.pack(1e10 * normal(40, 20, seed=1), np.zeros(20, np.float32))
    expected = kernel.nearest_two(rows, packed, 1)
    rows[7, 3] = value
    found = kernel.nearest_two(rows, packed, 1)
    others = np.arange(30) != 7
    assert found[3][7] == np.inf
    assert 0 <= found[0][7] < 40
    for a, b in zip(expected, found, strict=True):
        assert np.array_equal(a[others], b[others])


def test_a_row_depends_on_no_other_and_not_on_the_number_of_threads(kernel: Kernel) -> None:
    rows, packed = normal(2100, 45), kernel.pack(normal(130, 45, seed=1), normal(45, seed=2))
    whole = kernel.nearest_two(rows, packed, 1)
    for num_threads in (2, 3):
        again = kernel.nearest_two(rows, packed, num_threads)
        assert [a.tobytes() for a in again] == [a.tobytes() for a in whole]
    for start, stop in [(0, 1), (5, 6), (11, 30), (1999, 2100), (700, 1500), (4, 4)]:
        part = kernel.nearest_two(rows[start:stop], packed, 2)
        assert [a.tobytes() for a in part] == [a[start:stop].tobytes() for a in whole]


@pytest.mark.parametrize("k", [1, 5, 16, 37, 100])
def test_of_equal_centroids_the_first_wins_and_the_other_is_second(kernel: Kernel, k: int) -> None:
    rows, centroids = normal(200, 24), normal(k, 24, seed=1)
    once, best, _, _ = kernel.nearest_two(rows, kernel.pack(centroids, origin(centroids)), 1)
    three_times = kernel.pack(np.tile(centroids, (3, 1)), origin(centroids))
    labels, again, second, _ = kernel.nearest_two(rows, three_times, 1)
    assert np.array_equal(labels, once)
    assert np.array_equal(again, best)
    assert np.array_equal(second, best)


def test_no_rows_and_other_columns(kernel: Kernel) -> None:
    packed = kernel.pack(normal(5, 8), np.zeros(8, np.float32))
    assert [len(a) for a in kernel.nearest_two(normal(0, 8), packed, 2)] == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="9 columns"):
        kernel.nearest_two(normal(4, 9), packed, 1)


def test_a_centre_near_the_rows_makes_errors_small(kernel: Kernel) -> None:
    centre = np.full(40, 300, np.float32)
    rows, centroids = centre + normal(200, 40), centre + normal(30, 40, seed=1)
    labels, best, _, error = kernel.nearest_two(rows, kernel.pack(centroids, centre), 1)
    moved = exact_scores(rows.astype(np.float64) - centre, centroids.astype(np.float64) - centre)
    assert (abs(best - moved[np.arange(200), labels]) <= error).all()
    *_, far = kernel.nearest_two(rows, kernel.pack(centroids, origin(centroids)), 1)
    assert (error < 1e-2 * far).all()


def test_squared_norms(kernel: Kernel) -> None:
    for dim in (1, 16, 45):
        rows = normal(700, dim)
        expected = (rows.astype(np.float64) ** 2).sum(axis=1)
        norms = kernel.square(rows, 1)
        assert norms == pytest.approx(expected, rel=1e-14)
        assert np.array_equal(kernel.square(rows, 3), norms)
        assert np.array_equal(kernel.square(rows[5:], 1), norms[5:])


def test_add_rounds_to_the_grid_that_it_is_given(kernel: Kernel) -> None:
    rows, sums = normal(50, 7), np.zeros((1, 7))
    kernel.add(sums, rows, np.zeros(50, np.int64), 1, 1.5 * 2**52 / 64, 1)
    assert np.array_equal(sums[0], (rows.astype(np.float64) * 64).round().sum(axis=0) / 64)


@pytest.mark.parametrize("num_threads", [1, 2, 5])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("dim", [1, 17, 100])
def test_add_is_exact_on_a_grid(kernel: Kernel, dim: int, dtype: type[np.generic], num_threads: int) -> None:
    rows = (normal(400, dim) * 1024).round() / 1024
    labels = np.random.default_rng(1).integers(-1, 7, 400).astype(dtype)
    expected, sums = np.ones((9, dim)), np.ones((9, dim))
    np.add.at(expected, labels[labels >= 0], rows[labels >= 0].astype(np.float64))
    kernel.add(sums, rows, labels, 1, 0.0, num_threads)
    assert np.array_equal(sums, expected)
    kernel.add(sums, rows, labels, -1, 0.0, num_threads)
    assert np.array_equal(sums, np.ones((9, dim)))


def test_add_refuses_what_does_not_fit(kernel: Kernel) -> None:
    sums, rows = np.zeros((3, 4)), normal(5, 4)
    for labels in (np.array([0, 1, 2, 3, 0]), np.zeros(4, np.int64)):
        with pytest.raises(ValueError, match="do not fit"):
            kernel.add(sums, rows, labels, 1, 0.0, 1)
    assert not sums.any()


def test_without_a_compiler_there_is_no_kernel_and_one_line_about_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_with(tmp_path, "/nonexistent/cc") is None
    assert kernels() == ()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "/nonexistent/cc" in record.getMessage()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler")
def test_on_another_processor_the_line_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load_with(tmp_path / "cache", compiler(tmp_path, "-mno-avx2", "-mno-avx512f")) is None
    (record,) = caplog.records
    assert "error:" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert not list((tmp_path / "cache" / "cf_lightning").iterdir())


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert load_with(tmp_path / "file", "cc") is None
    assert len(caplog.records) == 1


def test_processes_that_build_at_once_share_one_library(tmp_path: Path) -> None:
    script = "from cf_lightning.clustering.kernel import kernels; print([k.precision for k in kernels()])"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", script]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = {process.communicate(timeout=300)[0].strip() for process in both}
    assert len(printed) == 1
    if printed == {"[]"}:
        pytest.skip("no compiler, or a processor without AVX2")
    libraries = sorted((tmp_path / "cf_lightning").iterdir())
    assert len(libraries) == printed.pop().count("'") // 2
    built = [library.stat().st_mtime_ns for library in libraries]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert [library.stat().st_mtime_ns for library in libraries] == built
