"""The exact nearest centroid: fast arithmetic proposes, float64 decides where that is uncertain."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from cf_lightning.clustering.base import Device
from cf_lightning.clustering.group import ALONE, Group
from cf_lightning.clustering.kernel import Kernel, kernels
from cf_lightning.clustering.rows import Rows

SCORE_CELLS = 2**20  # float32 scores held at once, which should stay in the cache: 4 MB
EXACT_CELLS = 2**22  # float64 scores held at once: 32 MB
CENTRING = 2**-22  # taking the centre away in float32, relative to the square of |x| + |c|
TIE = 1e-13  # relative to the scores: what float64 cannot tell apart; the lower id is nearer then


@dataclass(frozen=True)
class Scores:
    """The two best scores of each row in fast arithmetic.

    The score of row x and centroid c, both less a common centre, is x.c - |c|^2 / 2; larger is nearer.

    Attributes:
        labels: (b,) int64, the centroid of the best score.
        best: (b,) float32.
        second: (b,) float32, of any other centroid; -inf where there is none.
        error: (b,) float32, a bound on the difference of any score to its exact value.
    """

    labels: np.ndarray
    best: np.ndarray
    second: np.ndarray
    error: np.ndarray

    def uncertain(self) -> np.ndarray:
        """(u,) int64: the rows whose label the error could have changed."""
        return np.flatnonzero(~(self.best - self.second > 2 * self.error))


Score = Callable[[np.ndarray], Scores]


class NearestCentroid:
    """Finds the nearest of K centroids for block after block of rows.

    Every row gets the label that an evaluation in float64 gives, with ties to the lowest id. So labels
    depend neither on the device nor on the number of threads or processes nor on the size of blocks.

    The fastest arithmetic scores all rows, with a bound on the error of each (bfloat16 where the processor
    or the GPU has it). Rows whose two best scores are closer than the bound allows go on to the next more
    precise one, and at last to float64.

    Args:
        centroids: (K, D) float32.
        centre: (D,) float32, about the mean of the rows: the nearer, the smaller the errors.
        device: where to compute.
    """

    def __init__(self, centroids: np.ndarray, centre: np.ndarray, device: Device = "cpu") -> None:
        self._centroids, self._device = centroids, device
        self._centre = torch.from_numpy(centre).to(device).double()
        self._makers = _ladder(centroids, centre, device)
        self._ladder: list[Score] = []

    def propose(self, block: np.ndarray) -> Scores:
        """What the fastest arithmetic says of (b, D) float32 rows."""
        return self._step(0)(block)

    def _step(self, number: int) -> Score:
        """A step of the ladder, made when it is needed first."""
        while len(self._ladder) <= number:
            self._ladder.append(self._makers[len(self._ladder)]())
        return self._ladder[number]

    @cached_property
    def _exact(self) -> Tensor:
        """(K, D) float64, less the centre."""
        return torch.from_numpy(self._centroids).to(self._device).double() - self._centre

    @cached_property
    def _half(self) -> Tensor:
        return self._exact.square().sum(1) / 2

    def __call__(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(b,) int64 labels of (b, D) float32 rows, and a (b,) float32 lower bound on the score of each."""
        found = self.propose(block)
        labels, floor = found.labels, found.best - found.error
        open_ = found.uncertain()
        for number in range(1, len(self._makers)):
            if len(open_):
                found = self._step(number)(block[open_])
                labels[open_], floor[open_] = found.labels, found.best - found.error
                open_ = open_[found.uncertain()]
        labels[open_] = self._decide(block[open_])
        return labels, floor

    def several(self, block: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest centroids of each row, in float64 throughout; of equally near ones the lower id first.

        Args:
            block: (b, D) float32.
            count: l, at most K.

        Returns:
            (b, l) int64 ids and (b, l) float32 squared distances, nearest first.
        """
        ids, distances = np.empty((len(block), count), np.int64), np.empty((len(block), count), np.float32)
        for part, rows, scores, tie in self._exact_scores(block):
            best = _best(scores, tie, count)
            squares = rows.square().sum(1, keepdim=True) - 2 * scores.gather(1, best)
            ids[part], distances[part] = best.cpu().numpy(), squares.clamp(min=0).cpu().numpy()
        return ids, distances

    def _decide(self, block: np.ndarray) -> np.ndarray:
        """(b,) int64 labels from float64 scores."""
        labels = np.empty(len(block), np.int64)
        for part, _, scores, tie in self._exact_scores(block):
            labels[part] = _lowest(scores, tie).cpu().numpy()
        return labels

    def _exact_scores(self, block: np.ndarray) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """Which rows, the rows less the centre, their scores, and how far equal scores differ, in float64."""
        step = max(1, EXACT_CELLS // len(self._exact))
        for start in range(0, len(block), step):
            part = slice(start, start + step)
            rows = torch.from_numpy(block[part]).to(self._centre) - self._centre
            tie = TIE * (rows.norm(dim=1, keepdim=True) + (2 * self._half.max()).sqrt()) ** 2
            yield part, rows, torch.addmm(-self._half, rows, self._exact.T), tie


def _lowest(scores: Tensor, tie: Tensor) -> Tensor:
    """(b,) int64: of the best of (b, K) scores the first."""
    return (scores >= scores.amax(1, keepdim=True) - tie).byte().argmax(1)


def _best(scores: Tensor, tie: Tensor, count: int) -> Tensor:
    """(b, l) int64: the l best of (b, K) scores, the best first, of equal ones the lowest."""
    found = scores.topk(min(count + 1, scores.shape[1]))
    ids = found.indices[:, :count]
    tied = (found.values.diff(dim=1) >= -tie).any(1)
    scores, tie = scores[tied], tie[tied]
    for place in range(count):
        first = _lowest(scores, tie)
        ids[tied, place] = first
        scores.scatter_(1, first[:, None], -torch.inf)
    return ids


def squared_distances(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """(n,) float32 between the n rows of either (n, D) float32 array."""
    difference = rows - centroids
    return np.asarray(np.einsum("nd,nd->n", difference, difference))


def _ladder(centroids: np.ndarray, centre: np.ndarray, device: Device) -> list[Callable[[], Score]]:
    """How to make what this machine computes scores with, from the fastest to the most precise."""
    if device == "cuda":
        return [partial(_by_triton, centroids, centre)]
    if compiled := kernels():
        return [partial(_by_kernel, kernel, centroids, centre) for kernel in compiled]
    return [partial(_by_torch, centroids, centre)]


def _by_kernel(kernel: Kernel, centroids: np.ndarray, centre: np.ndarray) -> Score:
    packed = kernel.pack(centroids, centre)

    def score(rows: np.ndarray) -> Scores:
        labels, best, second, error = kernel.nearest_two(rows, packed, torch.get_num_threads())
        return Scores(labels.astype(np.int64), best, second, error)

    return score


def _by_triton(centroids: np.ndarray, centre: np.ndarray) -> Score:
    """Bfloat16 on a GPU."""
    from cf_lightning.clustering import triton_kernel

    centre_there = torch.from_numpy(centre).cuda()
    moved = (torch.from_numpy(centroids).cuda().double() - centre_there).float()
    rounded, half = moved.bfloat16(), moved.double().square().sum(1).float() / 2
    largest = (2 * half.max()).sqrt()

    def score(rows: np.ndarray) -> Scores:
        centred = torch.from_numpy(rows).cuda() - centre_there
        cut = centred.bfloat16()
        labels, best, second = triton_kernel.nearest_two(cut, rounded, half)
        error = triton_kernel.error_bound(centred, cut, moved, rounded)
        error += CENTRING * (centred.norm(dim=1) + largest) ** 2
        return Scores(*(array.cpu().numpy() for array in (labels.long(), best, second, error)))

    return score


def _by_torch(centroids: np.ndarray, centre: np.ndarray) -> Score:
    """Float32 without a compiler.

    Only the centroids are moved: x.c of a moved c is off by at most D + 2 roundings of |x| |c|, whatever
    the order of its additions, and what the centre of x is missing is the same for all rows.
    """
    exact = torch.from_numpy(centroids).double() - torch.from_numpy(centre)
    moved, square = exact.float(), exact.square().sum(1)
    missing = exact @ torch.from_numpy(centre).double() + square / 2
    largest, offset = square.max().sqrt().float(), missing.abs().max().float()
    step = max(256, SCORE_CELLS // len(moved))
    buffer = torch.empty(step, len(moved))  # new memory for every product costs half as much as the product

    def score(rows: np.ndarray) -> Scores:
        x = torch.from_numpy(rows if rows.flags.writeable else rows.copy())  # torch warns of read-only memory
        labels, (best, second) = torch.empty(len(x), dtype=torch.int64), torch.empty(2, len(x))
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            scores = torch.addmm(-missing.float(), x[part], moved.T, out=buffer[: len(x[part])])
            best[part], labels[part] = scores.max(1)
            second[part] = scores.scatter_(1, labels[part, None], -torch.inf).amax(1)
        error = 2**-24 * ((x.shape[1] + 4) * x.norm(dim=1) * largest + 3 * offset)
        return Scores(labels.numpy(), best.numpy(), second.numpy(), error.numpy())

    return score


def assign(
    rows: Rows, centroids: np.ndarray, device: Device, group: Group = ALONE
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centroid of some rows of a file, found by all ranks together.

    Args:
        rows: those that get one.
        centroids: (K, D) float32.
        device: where to compute.
        group: the ranks that call this.

    Returns:
        Of every row of the file: label, (N,) int64, and squared distance, (N,) float32; else -1 and NaN.
    """
    nearest = NearestCentroid(centroids, centroids.mean(axis=0), device)
    labels, distances = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.float32)
    for start, block in rows.blocks(*group.share(len(rows)), device):
        found, _ = nearest(block)
        labels[start : start + len(block)] = found
        distances[start : start + len(block)] = squared_distances(block, centroids[found])
    group.sum(labels, distances)
    number = len(rows.features)
    everywhere = np.full(number, -1, np.int64), np.full(number, np.nan, np.float32)
    everywhere[0][rows.numbers], everywhere[1][rows.numbers] = labels, distances
    return everywhere
