"""Centroids that are hardly missed move to where they are needed."""

import numpy as np
import torch

from cf_lightning.clustering.loop import LloydLoop
from cf_lightning.clustering.nearest import EXACT_CELLS
from cf_lightning.clustering.sums import ClusterSums

STEP = 0.1  # of the way from a centroid to one of its rows
DOUBT = 0.5  # a move has to promise 1 / DOUBT times what it costs: the gain is an estimate
AT_MOST = 0.1  # of all centroids in one iteration


def relocate(loop: LloydLoop, seed: list[int]) -> int:
    """Between two iterations: take centroids from where they are worth least and split other clusters.

    A centroid is worth what its removal would cost: the rise of the inertia if its cluster and that of the
    nearest other centroid were joined, n_i n_j / (n_i + n_j) |c_i - c_j|^2 (Ward 1963). What a split would
    gain is not known before it is tried, but what the existing splits are worth is: the median share of
    that cost in the inertia of the two clusters together. Lloyd's algorithm alone never does this, for a
    centroid in a crowded place cannot cross an empty one; and it fills clusters that have become empty.

    Returns:
        How many centroids were moved.
    """
    centroids = loop.centroids.copy()
    cost, gain, partner = worth(centroids, loop.clusters)
    receivers = iter(np.argsort(-gain, kind="stable"))
    is_busy = np.zeros(len(centroids), bool)
    pairs = []
    counts = loop.clusters.counts
    for donor in np.lexsort((counts, cost))[: max(1, int(AT_MOST * len(centroids)))]:
        if is_busy[donor]:
            continue
        is_busy[donor] = True
        is_busy[partner[donor]] |= counts[donor] > 0  # whoever inherits rows is not split at the same time
        receiver = next((r for r in receivers if not is_busy[r]), None)
        if receiver is None or cost[donor] >= DOUBT * gain[receiver]:
            break
        is_busy[[receiver, partner[receiver]]] = True
        pairs.append((donor, receiver))
    if pairs:
        donors, receivers_ = np.array(pairs).T
        step = STEP * (_members(loop, receivers_, seed) - centroids[receivers_])
        centroids[donors] = centroids[receivers_] + step
        centroids[receivers_] -= step
        loop.move(centroids)
    return len(pairs)


def worth(centroids: np.ndarray, clusters: ClusterSums) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What removing each centroid would cost, what splitting its cluster would gain, and its neighbour.

    Returns:
        (K,) float64, (K,) float64 and (K,) int64.
    """
    partner = nearest_other(centroids)
    difference = centroids.astype(np.float64) - centroids[partner]
    counts, inertia = clusters.counts, clusters.inertia(centroids)
    both = np.maximum(counts + counts[partner], 1)
    cost = counts * counts[partner] / both * np.square(difference).sum(axis=1)
    joined = inertia + inertia[partner] + cost
    is_split = cost > 0
    share = float(np.median(cost[is_split] / joined[is_split])) if is_split.any() else 1.0
    return cost, share * inertia, partner


def nearest_other(centroids: np.ndarray) -> np.ndarray:
    """(K,) int64, the nearest other centroid of each of (K, D)."""
    exact = torch.from_numpy(centroids).double()
    half = exact.square().sum(1) / 2
    partner = np.empty(len(exact), np.int64)
    step = max(1, EXACT_CELLS // len(exact))
    for start in range(0, len(exact), step):
        scores = torch.addmm(-half, exact[start : start + step], exact.T)
        scores[:, start : start + step].fill_diagonal_(-torch.inf)
        partner[start : start + step] = scores.argmax(1).numpy()
    return partner


def _members(loop: LloydLoop, clusters: np.ndarray, seed: list[int]) -> np.ndarray:
    """(m, D) float32: a row drawn at random from each of (m,) clusters, the same for any number of ranks."""
    group, labels = loop.group, loop.labels
    counts = np.zeros((group.size, len(clusters)), np.int64)
    counts[group.rank] = np.bincount(labels, minlength=len(loop.centroids))[clusters]
    group.sum(counts)
    drawn = (np.random.default_rng(seed).random(len(clusters)) * counts.sum(axis=0)).astype(np.int64)
    place = drawn - counts[: group.rank].sum(axis=0)  # among this rank's rows of the cluster
    here = np.flatnonzero((place >= 0) & (place < counts[group.rank]))
    order = np.argsort(labels, kind="stable")
    first = np.searchsorted(labels[order], clusters[here])
    found = np.zeros((len(clusters), loop.rows.dim), np.float32)
    for number, position in zip(here, order[first + place[here]] + loop.share[0], strict=True):
        found[number] = loop.rows.load(position, position + 1)[0]
    group.sum(found)
    return found
