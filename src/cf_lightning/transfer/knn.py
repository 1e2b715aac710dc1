"""k nearest neighbours: what the features say without any training."""

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from cf_lightning.config import each_once
from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError
from cf_lightning.progress import progress_bar
from cf_lightning.transfer.base import Protocol, Score, load
from cf_lightning.transfer.splits import Split
from cf_lightning.transfer.tally import Tally

if TYPE_CHECKING:
    from torch import Tensor

Neighbours = Annotated[int, Field(ge=1)]
TRAIN_CHUNK, TEST_CHUNK = 4096, 1024  # samples compared at once; 16 MB of similarities


class KNN(Protocol):
    """Vote of the k nearest training samples, weighted by exp(cosine / temperature).

    Wu et al. 2018, section 3.4. Exact: each test sample is compared with every training sample. A class
    without a vote is never a hit; ties of votes go to the lower class.

    Where samples have several labels, a neighbour votes for each class that it has.

    Attributes:
        k: neighbours that vote; of several k, found in one pass, each has metrics of its own (``top1_k20``).
        temperature: the smaller, the more the nearest ones count.
    """

    NAME: ClassVar[str] = "knn"
    VERSION: ClassVar[int] = 1

    k: Annotated[Neighbours | Annotated[list[Neighbours], Field(min_length=1)], each_once("a k")] = 20
    temperature: float = Field(default=0.07, gt=0)

    @property
    def _ks(self) -> list[int]:
        return self.k if isinstance(self.k, list) else [self.k]

    def splits(self, index: Index, skipped: np.ndarray) -> tuple[Split, Split]:
        """As every protocol; refuses a k that is larger than the number of training samples."""
        train, test = super().splits(index, skipped)
        if max(self._ks) > len(train):
            raise ConfigError(
                f"transfer.knn.protocol.k={self.k}: root={index.origin} has {len(train)} labelled samples in "
                f"split train; k is at most that"
            )
        return train, test

    def evaluate(self, features: np.ndarray, train: Split, test: Split, device: str) -> list[Score]:
        """Compare, vote, count.

        Raises:
            DataError: a feature is not finite.
        """
        cosines, neighbours = self._nearest(features, train.rows, test.rows, device)
        scores = []
        for k in self._ks:
            details = self.model_dump() | {"k": k}
            tally = self._vote(cosines[:, :k], neighbours[:, :k], train, test)
            scores += tally.scores(details, f"_k{k}" if isinstance(self.k, list) else "")
        return scores

    def _nearest(
        self, features: np.ndarray, train_rows: np.ndarray, test_rows: np.ndarray, device: str
    ) -> tuple["Tensor", "Tensor"]:
        """Cosines, descending, and positions in ``train_rows`` of each test sample's neighbours: (n, k)."""
        import torch
        from torch.nn.functional import normalize

        k, num_test = max(self._ks), len(test_rows)
        best = torch.full((num_test, k), -torch.inf, device=device)
        places = torch.zeros((num_test, k), dtype=torch.int64, device=device)
        with progress_bar(num_test, "samples") as progress:
            for first in range(0, len(train_rows), TRAIN_CHUNK):
                bank = normalize(load(features, train_rows[first : first + TRAIN_CHUNK], device)).T
                positions = torch.arange(first, first + bank.shape[1], device=device)
                for start in range(0, num_test, TEST_CHUNK):
                    chunk = slice(start, start + TEST_CHUNK)
                    cosines = normalize(load(features, test_rows[chunk], device)) @ bank
                    both = torch.cat([best[chunk], cosines], dim=1)
                    origin = torch.cat([places[chunk], positions.expand_as(cosines)], dim=1)
                    best[chunk], among = both.topk(k, dim=1)
                    places[chunk] = origin.gather(1, among)
                    progress.update(len(cosines) * len(positions) / len(train_rows))
        return best, places

    def _vote(self, cosines: "Tensor", neighbours: "Tensor", train: Split, test: Split) -> Tally:
        """The votes of (n, k) neighbours, positions in train."""
        import torch

        several, num_classes = train.labels.ndim == 2, train.num_classes
        tally, known = Tally(test, num_classes), torch.from_numpy(train.labels).to(cosines.device)
        for start in range(0, len(test), TEST_CHUNK):
            chunk = slice(start, start + TEST_CHUNK)
            near = cosines[chunk]
            weights = ((near - near[:, :1]) / self.temperature).exp()  # the nearest counts 1: no overflow
            votes = weights.new_zeros(len(near), num_classes)
            # one neighbour after the other: the order of sums is fixed
            for weight, voter in zip(weights.T, neighbours[chunk].T, strict=True):
                if several:
                    votes += weight[:, None] * (known[voter] == 1)
                else:
                    votes.scatter_add_(1, known[voter][:, None], weight[:, None])
            if several:  # a share, to be compared between samples
                votes /= weights.sum(1, keepdim=True)
            else:  # without a vote the true class is no hit
                truth = torch.from_numpy(test.labels[chunk]).to(votes.device)[:, None]
                votes = votes.masked_fill(votes.gather(1, truth) == 0, torch.nan)
            tally.add(votes)
        return tally
