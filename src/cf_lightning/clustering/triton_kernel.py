# mypy: disable-error-code="import-untyped, no-untyped-call, untyped-decorator"
"""The inner loop of k-means on a GPU, fused: the two nearest centroids without the (n, K) matrix.

Written in Triton, which comes with torch's CUDA builds. The idea is that of FlashAttention: a program
keeps a block of rows, lets the centroids stream past and carries only the two best scores of each row
along (flash-kmeans, arXiv:2603.09229, does so for the nearest one).

No GPU has run it so far. Triton's interpreter has, on a CPU, and it was compiled for Hopper: wgmma fed
by asynchronous copies, no spilled registers in the steady loop over D. Its speed is unknown.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # torch's CPU builds come without; error_bound works there
    triton = None

SHARE = 2048  # centroids that a program looks at, at least


def error_bound(rows: Tensor, rounded: Tensor, centroids: Tensor, rounded_centroids: Tensor) -> Tensor:
    """How far the scores of each row can be from those that exact arithmetic gives the unrounded values.

    Rounding the operands costs ``|x - x'| |c| + |x'| |c - c'|`` at most, by Cauchy and Schwarz. Products
    of bfloat16 are exact in float32, but adding them on tensor cores cuts off what does not fit: up to
    2**-23 of the largest for each term, and for two more in each group of 8 or 16 (Khattak and Mikaitis
    2025, arXiv:2512.07004, A100 and H100). Plain float32 sums lose less. Another half of that for each
    term covers half norms that were summed in float32.

    Args:
        rows: (n, D) float32.
        rounded: (n, D) bfloat16, what ``nearest_two`` sees of them.
        centroids: (K, D) float32.
        rounded_centroids: (K, D) bfloat16.

    Returns:
        (n,) float32. A best score that leads by more than twice as much is that of the nearest centroid.
    """
    longest, length = _norm(centroids).max(), _norm(rounded)
    rounding = _norm(rows - rounded) * longest + length * _norm(centroids - rounded_centroids).max()
    units = (2 * rows.shape[1] + 4) * 2.0**-23
    adding = units * (length * _norm(rounded_centroids).max() + longest.square() / 2)
    return (1 + units) * (rounding + adding)  # the norms here are rounded too


def _norm(vectors: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float32)
    return norm


def nearest_two(rows: Tensor, centroids: Tensor, half_norms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest centroid of each row by the score x.c - |c|^2 / 2, and how close the second comes.

    The first call for a width and a magnitude of K times the candidate tilings, which takes seconds (and
    once, while they compile, some more).

    Args:
        rows: (n, D) bfloat16, contiguous, on a CUDA device of compute capability 8.0 or more, finite.
        centroids: (K, D) bfloat16, likewise.
        half_norms: (K,) float32, |c|^2 / 2.

    Returns:
        (n,) int32 labels, the lowest of equal ones; (n,) float32 best score; (n,) float32 second-best
        score, equal to the best where two centroids tie and -inf where K is 1. Summed in float32.
    """
    tuned_k = min(triton.next_power_of_2(len(centroids)), 8192)
    with torch.cuda.device_of(rows):
        tiling = _fastest(rows.shape[1], tuned_k, rows.device)
        return _launch(_kernel, rows, centroids, half_norms, **tiling.all_kwargs())


def _launch(
    kernel: Any, rows: Tensor, centroids: Tensor, half_norms: Tensor, **tiling: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the kernel, on shares of the centroids if there are many, and merge what the shares found.

    The programs of a block of rows run side by side, so that fewer blocks are in flight: 132 of them
    with 2048 dimensions would not fit into the L2 cache, from which each is read again and again.
    """
    (n, dim), k = rows.shape, len(centroids)
    shares = max(1, min(8, k // SHARE))
    best, second = rows.new_empty((2, shares, n), dtype=torch.float32)
    labels = rows.new_empty((shares, n), dtype=torch.int32)

    def grid(meta: dict[str, int]) -> tuple[int]:
        return (triton.cdiv(n, meta["BLOCK_ROWS"]) * shares,)

    arguments = (rows, centroids, half_norms, labels, best, second, n, k, shares, dim)
    kernel[grid](*arguments, enable_fp_fusion=False, **tiling)
    winner, share = best.max(dim=0, keepdim=True)  # the first of equal ones
    others = best.scatter(0, share, -torch.inf)
    return labels.gather(0, share)[0], winner[0], torch.maximum(second, others).amax(dim=0)


@functools.cache
def _fastest(dim: int, k: int, device: torch.device) -> Any:
    """The ``triton.Config`` that is fastest on random rows; what does not fit into the GPU drops out."""
    random = torch.Generator(device).manual_seed(0)  # leaves the global one alone
    rows = torch.randn(2**16, dim, device=device, generator=random).bfloat16()
    centroids = torch.randn(k, dim, device=device, generator=random).bfloat16()
    tuner = triton.autotune(_tilings(dim), key=[])(_kernel)
    _launch(tuner, rows, centroids, centroids.float().square().sum(dim=1) / 2)
    return tuner.best_config


def _tilings(dim: int) -> list[Any]:
    """Candidates: D in steps of 64 or, where shared memory can hold the rows so, all at once."""
    steps = [(128, 256, 64, 8, 4), (256, 128, 64, 8, 4), (128, 128, 64, 4, 3), (64, 128, 64, 4, 4)]
    whole = triton.next_power_of_2(dim)
    if 64 < whole <= 512:
        steps += [(128, 128, whole, 8, 2), (128, 64, whole, 8, 1)]
    return [
        triton.Config({"BLOCK_ROWS": r, "BLOCK_K": k, "BLOCK_D": d}, num_warps=warps, num_stages=stages)
        for r, k, d, warps, stages in steps
    ]


def _jit(**options: Any) -> Callable[[Any], Any]:
    return triton.jit(**options) if triton else lambda function: function


@_jit()
def _two_best(
    best: tl.tensor,
    second: tl.tensor,
    label: tl.tensor,
    other: tl.tensor,
    runner_up: tl.tensor,
    its: tl.tensor,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Merge (best, second, label of the best) with another such triple."""
    is_first = (best > other) | ((best == other) & (label < its))
    second = tl.maximum(tl.minimum(best, other), tl.maximum(second, runner_up))
    return tl.maximum(best, other), second, tl.where(is_first, label, its)


@_jit(do_not_specialize=["n", "k", "shares"])
def _kernel(
    rows: tl.tensor,
    centroids: tl.tensor,
    half_norms: tl.tensor,
    labels: tl.tensor,
    bests: tl.tensor,
    seconds: tl.tensor,
    n: tl.tensor,
    k: tl.tensor,
    shares: tl.tensor,
    D: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """A block of rows against one share of the centroids; results are (shares, n)."""
    share = tl.program_id(0) % shares
    row = tl.program_id(0) // shares * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    d = tl.arange(0, BLOCK_D)
    # past the end the last row and centroid are read again, which needs no mask in the inner loop
    x_start = rows + tl.minimum(row, n - 1).to(tl.int64)[:, None] * D + d[None, :]
    share_size = tl.cdiv(tl.cdiv(k, BLOCK_K), shares) * BLOCK_K
    begin = share * share_size

    nothing = tl.full((BLOCK_ROWS, BLOCK_K), float("-inf"), tl.float32)
    best = tl.full((BLOCK_ROWS,), float("-inf"), tl.float32)
    second = tl.full((BLOCK_ROWS,), float("-inf"), tl.float32)
    label = tl.zeros((BLOCK_ROWS,), tl.int32)
    for start in tl.range(begin, tl.minimum(begin + share_size, k), BLOCK_K):
        c = start + tl.arange(0, BLOCK_K)
        c_start = centroids + tl.minimum(c, k - 1).to(tl.int64)[None, :] * D + d[:, None]
        half = tl.load(half_norms + c, mask=c < k, other=float("inf"))
        scores = tl.broadcast_to(-half[None, :], (BLOCK_ROWS, BLOCK_K))
        for at in tl.range(0, D, BLOCK_D):
            if D % BLOCK_D == 0:
                x = tl.load(x_start + at)
                y = tl.load(c_start + at)
            else:
                x = tl.load(x_start + at, mask=(at + d < D)[None, :], other=0)
                y = tl.load(c_start + at, mask=(at + d < D)[:, None], other=0)
            scores = tl.dot(x, y, scores)
        numbers = tl.broadcast_to(c[None, :], (BLOCK_ROWS, BLOCK_K))
        found = tl.reduce((scores, nothing, numbers), 1, _two_best)
        best, second, label = _two_best(best, second, label, found[0], found[1], found[2])

    at = share.to(tl.int64) * n + row
    tl.store(labels + at, label, mask=row < n)
    tl.store(bests + at, best, mask=row < n)
    tl.store(seconds + at, second, mask=row < n)
