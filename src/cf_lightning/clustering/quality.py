"""What clusters are worth: sizes, spread, held-out rows, and agreement with what is known of the images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cf_lightning.data.index import Index

if TYPE_CHECKING:
    from scipy.sparse import csr_array

AMI_TERMS = 2 * 10**10  # of the sum for chance agreement: minutes; adjusted measures are left out beyond


@dataclass(frozen=True)
class Members:
    """The rows of every cluster, those near the centroid first.

    Attributes:
        rows: (n,) int64, by cluster and then by distance.
        distances: (n,) float32, Euclidean, to the centroid of the row's cluster.
        bounds: (K + 1,) int64; cluster c has ``rows[bounds[c]:bounds[c + 1]]``.
    """

    rows: np.ndarray
    distances: np.ndarray
    bounds: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, squared: np.ndarray, rows: np.ndarray, k: int) -> Self:
        """Sort ``rows`` by (N,) labels and (N,) squared distances; rows with label -1 are left out."""
        rows = rows[labels[rows] >= 0]
        rows = rows[np.lexsort((squared[rows], labels[rows]))]
        bounds = np.searchsorted(labels[rows], np.arange(k + 1))
        return cls(rows, np.sqrt(squared[rows]), bounds)

    @property
    def sizes(self) -> np.ndarray:
        """(K,) int64."""
        return np.diff(self.bounds)

    def cluster(self, number: int) -> np.ndarray:
        """(size,) int64: its rows, nearest to the centroid first."""
        return self.rows[self.bounds[number] : self.bounds[number + 1]]

    def inertia(self) -> np.ndarray:
        """(K,) float64: the sum of squared distances in each cluster."""
        cluster = np.repeat(np.arange(len(self.sizes)), self.sizes)
        return np.bincount(cluster, np.square(self.distances, dtype=np.float64), len(self.sizes))

    def radius(self, share: float) -> np.ndarray:
        """(K,) float64: the distance within which ``share`` of a cluster's rows lie; NaN of an empty one."""
        radius = np.full(len(self.sizes), np.nan)
        full = self.sizes > 0
        within = np.maximum(np.ceil(share * self.sizes[full]).astype(np.int64), 1)
        radius[full] = self.distances[self.bounds[:-1][full] + within - 1]
        return radius


def size_facts(sizes: np.ndarray) -> dict[str, float]:
    """How evenly (K,) sizes share the rows.

    ``imbalance`` is faiss's factor K * sum(n_k ** 2) / n ** 2, the size of the cluster of a random row
    against the mean size: 1 where all are equal, K where one has everything. ``entropy`` is of the shares
    and divided by log(K): 1 where all are equal.
    """
    shares = sizes / sizes.sum()
    some = shares[shares > 0]
    return {
        "mean": float(sizes.mean()),
        "median": float(np.median(sizes)),
        "smallest": int(sizes.min()),
        "largest": int(sizes.max()),
        "largest_share": float(shares.max()),
        "empty": int((sizes == 0).sum()),
        "singletons": int((sizes == 1).sum()),
        "imbalance": float(len(sizes) * np.square(shares).sum()),
        "entropy": float(-(some * np.log(some)).sum() / np.log(len(sizes))) if len(sizes) > 1 else 1.0,
    }


def spread(members: Members) -> dict[str, float]:
    """How far the rows are from their centroids."""
    inertia = float(members.inertia().sum())
    return {
        "rows": len(members.rows),
        "inertia": inertia,
        "mean_squared_distance": inertia / len(members.rows),
        "mean_distance": float(members.distances.mean(dtype=np.float64)),
    }


def held_out(members: Members, train: Members) -> dict[str, float | None]:
    """How rows that k-means did not see fall into its clusters.

    ``distance_ratio`` is their mean squared distance against that of the rows of train, ``None`` where the
    latter is 0. ``clusters_used`` is the share of clusters that they use, ``clusters_expected`` the share
    that as many random rows with the proportions of train would use.
    """
    facts, fitted = spread(members), spread(train)["mean_squared_distance"]
    missed = (1 - train.sizes / train.sizes.sum()) ** len(members.rows)
    return {
        **facts,
        "distance_ratio": facts["mean_squared_distance"] / fitted if fitted else None,
        "clusters_used": float((members.sizes > 0).mean()),
        "clusters_expected": float(1 - missed.mean()),
    }


def nearest_centroids(centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K,) int64 and (K,) float32: the nearest other centroid and the Euclidean distance to it."""
    from cf_lightning.clustering.relocation import nearest_other

    if len(centroids) == 1:
        return np.full(1, -1), np.full(1, np.nan, np.float32)
    other = nearest_other(centroids)
    return other, np.linalg.norm(centroids - centroids[other], axis=1)


@dataclass(frozen=True)
class Known:
    """What is known of images: one pair of row and name for each label or tag of each image.

    Attributes:
        names: (T,) of text.
        rows: (P,) int64.
        codes: (P,) int64, the position in ``names``.
    """

    names: np.ndarray
    rows: np.ndarray
    codes: np.ndarray

    @classmethod
    def of(cls, index: Index, column: str, rows: np.ndarray) -> Self | None:
        """The column ``labels`` or ``tags`` of some rows; ``None`` where nothing is known of any."""
        lists = index.table[column].combine_chunks()
        is_wanted = np.zeros(len(index), dtype=bool)
        is_wanted[rows] = True
        row = pc.list_parent_indices(lists).to_numpy()
        names, codes = np.unique(pc.list_flatten(lists).filter(pa.array(is_wanted[row])), return_inverse=True)
        pairs = np.unique(np.stack([row[is_wanted[row]], codes], axis=1), axis=0)  # written twice counts once
        return cls(names, pairs[:, 0], pairs[:, 1]) if len(pairs) else None

    def counts(self, labels: np.ndarray, k: int) -> "csr_array":
        """(K, T) int64: how many images of each cluster have each name."""
        from scipy.sparse import coo_array

        ones = np.ones(len(self.rows), np.int64)
        return coo_array((ones, (labels[self.rows], self.codes)), (k, len(self.names))).tocsr()


def agreement(known: Known, labels: np.ndarray, k: int) -> dict[str, float | None]:
    """How well clusters and known names tell each other.

    An image with several names counts once for each of them. Normalised and adjusted mutual information are
    scikit-learn's, with the arithmetic mean of the entropies. ``purity`` is the share of pairs whose name is
    the most frequent of its cluster; ``purity_of_one`` what a single cluster would reach.
    """
    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

    clusters, counts = labels[known.rows], known.counts(labels, k)
    pairs = len(known.rows)
    can_adjust = pairs * min(counts.shape) <= AMI_TERMS
    return {
        "names": len(known.names),
        "images": len(np.unique(known.rows)),
        "pairs": pairs,
        "nmi": float(normalized_mutual_info_score(known.codes, clusters)),
        "ami": float(adjusted_mutual_info_score(known.codes, clusters)) if can_adjust else None,
        "purity": float(counts.max(axis=1).sum() / pairs),
        "purity_of_one": float(counts.sum(axis=0).max() / pairs),
    }


def majority(known: Known, labels: np.ndarray, k: int) -> tuple[pa.Array, np.ndarray]:
    """Each cluster's most frequent name and its share of its pairs; null and NaN where none is known."""
    counts = known.counts(labels, k)
    total = counts.sum(axis=1)
    names = pa.array(known.names, pa.string()).take(pa.array(counts.argmax(axis=1)))
    purity = np.divide(counts.max(axis=1).toarray(), total, out=np.full(k, np.nan), where=total > 0)
    return pc.if_else(pa.array(total > 0), names, None), purity


def themes(known: Known, labels: np.ndarray, sizes: np.ndarray, most: int) -> pa.Array:
    """For each cluster the names that are typical of it: a list of {name, count, lift}.

    ``lift`` is a name's share of the cluster's images against its share of all images. One image with a rare
    name has a large lift and is no theme: names are ordered by (count + 1) / (expected count + 1), and
    typical are those above 2, which takes two images at least.

    Args:
        known: names of the rows that ``sizes`` counts.
        labels: (N,) int64.
        sizes: (K,) int64.
        most: names for each cluster at most.
    """
    counts = known.counts(labels, len(sizes)).tocoo()
    cluster, name = counts.coords
    expected = sizes[cluster] * counts.sum(axis=0)[name] / sizes.sum()
    typical = (counts.data + 1) / (expected + 1)
    order = np.lexsort((name, -typical, cluster))
    order = order[typical[order] > 2]
    place = np.arange(len(order)) - np.searchsorted(cluster[order], cluster[order])
    order = order[place < most]
    fields = [
        pa.array(known.names[name[order]], pa.string()),
        pa.array(counts.data[order]),
        pa.array(counts.data[order] / expected[order]),
    ]
    offsets = np.searchsorted(cluster[order], np.arange(len(sizes) + 1))
    named = pa.StructArray.from_arrays(fields, ["name", "count", "lift"])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), named)
