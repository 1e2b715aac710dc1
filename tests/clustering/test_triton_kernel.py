import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cf_lightning.clustering import triton_kernel
from cf_lightning.clustering.triton_kernel import error_bound, nearest_two

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
HAS_GPU = torch.cuda.is_available()
# The interpreter multiplies the bit patterns of bfloat16: it gets the same numbers as float32.
DEVICE, DTYPE = ("cpu", torch.float32) if INTERPRETED else ("cuda", torch.bfloat16)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def half_norms(centroids: Tensor) -> Tensor:
    return (centroids.double().square().sum(dim=1) / 2).float()


def exact_scores(rows: Tensor, centroids: Tensor) -> Tensor:
    return rows.double() @ centroids.double().T - centroids.double().square().sum(dim=1) / 2


def run_kernel(rows: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rounded, rounded_centroids = (operand.bfloat16().to(DEVICE, DTYPE) for operand in (rows, centroids))
    labels, best, second = nearest_two(rounded, rounded_centroids, half_norms(centroids).to(DEVICE))
    assert (labels.dtype, best.dtype, second.dtype) == (torch.int32, torch.float32, torch.float32)
    return labels.cpu(), best.cpu(), second.cpu()


def check(rows: Tensor, centroids: Tensor) -> None:
    labels, best, second = run_kernel(rows, centroids)
    error = error_bound(rows, rows.bfloat16(), centroids, centroids.bfloat16())
    ranked, order = exact_scores(rows, centroids).topk(min(2, len(centroids)), dim=1)
    assert ((best - ranked[:, 0]).abs() <= error).all()
    if len(centroids) == 1:
        assert (labels == 0).all()
        assert (second == -torch.inf).all()
        return
    assert ((second - ranked[:, 1]).abs() <= error).all()
    certain = best - second > 2 * error
    assert len(rows) < 10 or certain.float().mean() > 0.5
    assert torch.equal(labels[certain].long(), order[certain, 0])

    # and much closer to the scores of the rounded operands, with the half norms given
    scores = rows.bfloat16().double() @ centroids.bfloat16().double().T - half_norms(centroids)
    ranked, order = scores.topk(2, dim=1)
    torch.testing.assert_close(torch.stack([best, second], dim=1), ranked.float(), rtol=1e-4, atol=1e-3)
    clear = ranked[:, 0] - ranked[:, 1] > 1e-2
    assert torch.equal(labels[clear].long(), order[clear, 0])


@pytest.mark.skipif(not (INTERPRETED or HAS_GPU), reason="neither a GPU nor the interpreter")
class TestKernel:
    @pytest.fixture(autouse=True)
    def small_tiles(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if INTERPRETED:  # nothing can be timed, and small tiles take it less time
            triton = pytest.importorskip("triton")
            tiles = {"BLOCK_ROWS": 16, "BLOCK_K": 16, "BLOCK_D": 32}
            monkeypatch.setattr(triton_kernel, "_fastest", lambda *_: triton.Config(tiles))

    @pytest.mark.parametrize(
        ("n", "k", "dim"),
        [
            (1, 1, 1),
            (1, 2, 17),
            (2, 1, 130),
            (2, 17, 2),
            (17, 2, 1),
            (17, 130, 17),
            (130, 17, 130),
            (32, 16, 64),
        ],
    )
    def test_against_brute_force(self, n: int, k: int, dim: int) -> None:
        check(normal(n, dim), 3 * normal(k, dim, seed=1))

    @pytest.mark.parametrize("k", [40, 130])
    def test_shares_of_the_centroids_are_merged(self, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(triton_kernel, "SHARE", 20)  # 2, and 6 of which the last is empty
        check(normal(13, 24), 3 * normal(k, 24, seed=1))

    @pytest.mark.parametrize("share", [2048, 10])
    def test_the_lowest_of_equal_centroids_wins(self, share: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(triton_kernel, "SHARE", share)
        rows, centroids = normal(16, 8), normal(7, 8, seed=1)
        labels, best, second = run_kernel(rows, centroids.repeat(6, 1))
        alone, best_alone, _ = run_kernel(rows, centroids)
        assert torch.equal(labels, alone)
        assert torch.equal(best, best_alone)
        assert torch.equal(second, best)


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="is interpreted already")
def test_the_kernel_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"{__file__}::TestKernel"]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
    assert "passed" in ended.stdout
    assert "skipped" not in ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize("dim", [100, 256, 2048])
def test_compiles_for_hopper(dim: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("triton")
    hopper = pytest.importorskip("triton.backends.compiler").GPUTarget("cuda", 90, 32)
    kernel = triton_kernel._kernel
    pointers = ["*bf16", "*bf16", "*fp32", "*i32", "*fp32", "*fp32"]
    types = [*pointers, *["i32"] * 3, *["constexpr"] * 4]
    for tiling in triton_kernel._tilings(dim):
        source = triton.compiler.ASTSource(
            kernel,
            dict(zip(kernel.arg_names, types, strict=True)),
            {"D": dim, **tiling.kwargs},
            {(i,): [["tt.divisibility", 16]] for i in range(len(pointers))},
        )
        options = {"num_warps": tiling.num_warps, "num_stages": tiling.num_stages, "enable_fp_fusion": False}
        with monkeypatch.context() as patch:
            patch.setenv("TRITON_CACHE_DIR", str(tmp_path))
            compiled = triton.compile(source, target=hopper, options=options)
        assert "wgmma.mma_async" in compiled.asm["ptx"]
        assert compiled.metadata.shared <= 227 * 1024


@pytest.mark.skipif(not HAS_GPU, reason="no GPU")
class TestOnGpu:
    @pytest.mark.parametrize(("n", "k", "dim"), [(100_000, 1000, 256), (9999, 5000, 2048), (9999, 5000, 100)])
    def test_every_tiling_against_torch_mm(self, n: int, k: int, dim: int) -> None:
        triton = pytest.importorskip("triton")
        rows, centroids = (normal(size, dim, seed=size).cuda().bfloat16() for size in (n, k))
        halves = half_norms(centroids)
        ranked, order = (torch.mm(rows.float(), centroids.float().T) - halves).topk(2, dim=1)
        clear = ranked[:, 0] - ranked[:, 1] > 0.1
        for tiling in triton_kernel._tilings(dim):
            try:
                labels, best, second = triton_kernel._launch(
                    triton_kernel._kernel, rows, centroids, halves, **tiling.all_kwargs()
                )
            except triton.OutOfResources:
                continue  # made for another GPU
            torch.testing.assert_close(best, ranked[:, 0], rtol=1e-4, atol=1e-3)
            torch.testing.assert_close(second, ranked[:, 1], rtol=1e-4, atol=1e-3)
            assert torch.equal(labels[clear].long(), order[clear, 0])

    def test_the_chosen_tiling_with_many_rows(self) -> None:
        check(normal(20_000, 256), 3 * normal(1000, 256, seed=1))

    def test_choosing_leaves_the_random_state_alone(self) -> None:
        triton_kernel._fastest.cache_clear()
        before = torch.cuda.get_rng_state()
        check(normal(50, 96), normal(30, 96, seed=1))
        assert torch.equal(before, torch.cuda.get_rng_state())


@pytest.mark.parametrize("dim", [1, 17, 130, 2048])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_the_bound_holds(dim: int, scale: float) -> None:
    rows, centroids = scale * normal(300, dim), scale * normal(50, dim, seed=1) + scale
    rounded = rows.bfloat16(), centroids.bfloat16()
    scores = rounded[0].float() @ rounded[1].float().T - centroids.square().sum(dim=1) / 2
    error = (scores - exact_scores(rows, centroids)).abs().amax(dim=1)
    bound = error_bound(rows, rounded[0], centroids, rounded[1])
    assert bound.dtype == torch.float32
    assert (error <= bound).all()


def test_no_smaller_bound_would_hold() -> None:
    # every value is rounded down by nearly half a unit, in the same direction
    rows = torch.full((1, 64), 1 + 0.99 * 2**-8)
    rounded = rows.bfloat16()
    assert (rounded == 1).all()
    error = exact_scores(rows, rows) - (64 - half_norms(rows))
    bound = error_bound(rows, rounded, rows, rounded)
    assert 0.98 * bound <= error.abs() <= bound


def test_the_bound_covers_float32_sums() -> None:
    rows = normal(5, 20_000).abs().bfloat16()
    centroids = normal(4, 20_000, seed=1).abs().bfloat16()
    one_by_one = torch.zeros(5, 4)
    for i in range(rows.shape[1]):
        one_by_one += rows[:, i, None].float() * centroids[:, i].float()
    scores = one_by_one - half_norms(centroids)
    error = (scores - exact_scores(rows, centroids)).abs().amax(dim=1)
    bound = error_bound(rows.float(), rows, centroids.float(), centroids)
    assert (error > 0).all()
    assert (error <= bound).all()
