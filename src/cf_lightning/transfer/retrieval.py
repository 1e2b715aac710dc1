"""Retrieval: whether what lies near a test sample shows the same."""

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from cf_lightning.config import each_once
from cf_lightning.progress import progress_bar
from cf_lightning.transfer.accuracy import hits_within
from cf_lightning.transfer.base import Protocol, Score, load
from cf_lightning.transfer.bootstrap import drawn_means, percentiles
from cf_lightning.transfer.splits import Split

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 1024  # samples of the gallery loaded at once; changes no number
CELLS = 16_000_000  # of queries x gallery that are ranked together: 64 MB of cosines, 128 MB of their order


class Retrieval(Protocol):
    """Recall at K and mean average precision of test samples as queries, split train as the gallery.

    By cosine similarity, exact; of equal ones the lower row comes first. What has a class of the query is
    relevant. Recall at K is the share of queries with something relevant among the K nearest (Jegou et al.
    2011, as metric learning uses it); average precision is over the whole gallery, not interpolated, and its
    mean is over queries, not over classes as the mAP of ``svm``. Queries without anything relevant are left
    out and counted.

    Attributes:
        ks: K of recall.
    """

    NAME: ClassVar[str] = "retrieval"
    VERSION: ClassVar[int] = 1

    ks: Annotated[list[Annotated[int, Field(ge=1)]], each_once("a K")] = Field(
        default=[1, 5, 10], min_length=1
    )

    def evaluate(self, features: np.ndarray, train: Split, test: Split, device: str) -> list[Score]:
        """Rank the gallery for each query.

        Raises:
            DataError: a feature is not finite.
        """
        import torch

        firsts, precisions = [], []
        chunk = max(CELLS // len(train), 1)
        gallery = torch.empty(len(train), features.shape[1], device=device)
        for start in range(0, len(train), CHUNK):
            part = slice(start, start + CHUNK)
            gallery[part] = _normalised(features, train.rows[part], device)
        of_gallery = torch.from_numpy(train.labels).to(device)
        with progress_bar(len(test), "queries") as progress:
            for start in range(0, len(test), chunk):
                queries = slice(start, start + chunk)
                cosines = _normalised(features, test.rows[queries], device) @ gallery.T
                order = cosines.sort(dim=1, descending=True, stable=True).indices
                wanted = _relevant(torch.from_numpy(test.labels[queries]).to(device), of_gallery)
                first, precision = _ranked(wanted.gather(1, order))
                firsts.append(first.cpu().numpy())
                precisions.append(precision.cpu().numpy())
                progress.update(len(order))
        ranks, values = np.concatenate(firsts), np.concatenate(precisions)
        found = np.isfinite(values)
        details = self.model_dump() | {"gallery": "train", "queries_left_out": int((~found).sum())}
        scores = hits_within(ranks[found], {f"recall_at_{k}": k for k in self.ks}, details)
        draws = drawn_means(values[found][:, None])[0]
        mean = float(values[found].mean())
        return [*scores, Score("query_map", mean, *percentiles(draws), int(found.sum()), draws, details)]


def _normalised(features: np.ndarray, rows: np.ndarray, device: str) -> "Tensor":
    from torch.nn.functional import normalize

    return normalize(load(features, rows, device))


def _relevant(queries: "Tensor", gallery: "Tensor") -> "Tensor":
    """(q, g) bool, from (q,) and (g,) classes or (q, C) and (g, C) labels."""
    if queries.ndim == 1:
        return queries[:, None] == gallery
    return ((queries == 1).float() @ (gallery == 1).float().T) > 0


def _ranked(relevant: "Tensor") -> "tuple[Tensor, Tensor]":
    """The rank of the first relevant one and the average precision, (q,) each, of (q, g) bool in order.

    Where nothing is relevant the precision is NaN.
    """
    import torch

    ranks = torch.arange(1, relevant.shape[1] + 1, device=relevant.device)
    precisions = relevant.cumsum(1).double() / ranks
    total = relevant.sum(1)
    return relevant.int().argmax(1), (precisions * relevant).sum(1) / total
