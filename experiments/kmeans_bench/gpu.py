"""One GPU: the speed and the race again, with a problem of ImageNet-1K's size, and the kernel alone."""

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import faiss
import race
import speed
import torch
from fits import rounds
from measuring import Bound, middle, seconds
from problem import synthetic
from table import Row

from cf_lightning.clustering import triton_kernel

NUM_ROWS, DIM, K = 1_281_167, 2048, 16_000
KERNEL_ROWS, REPEATS = 2**17, 10
KERNEL = Bound(">=", 0.5), Bound(">=", 0.85)
FUSED = f"fused kernel / torch.mm in bf16, TFLOP/s ({KERNEL_ROWS:,} x {DIM}, k={K:,})"


def rows(folder: Path) -> Iterator[Row]:
    if not torch.cuda.is_available() or not faiss.get_num_gpus():
        where = f"GPU, {NUM_ROWS:,} x {DIM}, k={K:,}"
        yield Row(speed.what(where)[0], *speed.GPU)
        yield Row(race.what(where)[0], *race.GPU_TIME)
        yield Row(FUSED, *KERNEL)
        return
    yield kernel()
    problem = synthetic("feat", folder / "gpu.npy", NUM_ROWS, DIM, K, "cuda")
    yield from speed.rows(problem)
    yield from race.rows(problem)


def kernel() -> Row:
    """Both score the same rows against the same centroids; only ours also looks for the best."""
    random = torch.Generator("cuda").manual_seed(0)
    points, centroids = (
        torch.randn(number, DIM, device="cuda", generator=random).bfloat16() for number in (KERNEL_ROWS, K)
    )
    half_norms = centroids.float().square().sum(dim=1) / 2
    product = points.new_empty(KERNEL_ROWS, K)

    def play(_: int) -> tuple[float, float]:
        ours = _tflops(lambda: triton_kernel.nearest_two(points, centroids, half_norms))
        return ours, _tflops(lambda: torch.mm(points, centroids.T, out=product))

    played = rounds(play)
    shares = [ours / theirs for ours, theirs in played]
    sides = f"{median(p[0] for p in played):.0f} against {median(p[1] for p in played):.0f} TFLOP/s"
    return Row(FUSED, *KERNEL, median(shares), middle(shares), sides)


def _tflops(act: Callable[[], object]) -> float:
    def repeat() -> None:
        for _ in range(REPEATS):
            act()
        torch.cuda.synchronize()

    torch.cuda.synchronize()
    return 2 * KERNEL_ROWS * DIM * K * REPEATS / seconds(repeat) / 1e12
