"""k nearest neighbours: what the features say without any training."""

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError
from cf_lightning.progress import progress_bar
from cf_lightning.transfer.base import Protocol, Score, Split, accuracies, load, rank_of_truth

if TYPE_CHECKING:
    from torch import Tensor

TRAIN_CHUNK, TEST_CHUNK = 16_384, 1024  # samples compared at once; 64 MB of similarities


class KNN(Protocol):
    """Vote of the k nearest training samples, weighted by exp(cosine / temperature).

    Wu et al. 2018, section 3.4. Exact: each test sample is compared with every training sample. A class
    without a vote is never a hit; ties of votes go to the lower class.

    Attributes:
        k: neighbours that vote.
        temperature: the smaller, the more the nearest ones count.
    """

    NAME: ClassVar[str] = "knn"
    VERSION: ClassVar[int] = 1

    k: int = Field(default=20, ge=1)
    temperature: float = Field(default=0.07, gt=0)

    def splits(self, index: Index, skipped: np.ndarray) -> tuple[Split, Split]:
        """As every protocol; refuses a k that is larger than the number of training samples."""
        train, test = super().splits(index, skipped)
        if self.k > len(train):
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
        import torch

        num_classes = int(train.labels.max()) + 1
        cosines, neighbours = self._nearest(features, train.rows, test.rows, device)
        classes = torch.from_numpy(train.labels).to(device)[neighbours]
        truth = torch.from_numpy(test.labels).to(device)
        ranks = []
        for start in range(0, len(test), TEST_CHUNK):
            chunk = slice(start, start + TEST_CHUNK)
            ranks.append(self._vote(cosines[chunk], classes[chunk], truth[chunk], num_classes))
        return accuracies(torch.cat(ranks).cpu().numpy(), num_classes, self.model_dump())

    def _nearest(
        self, features: np.ndarray, train_rows: np.ndarray, test_rows: np.ndarray, device: str
    ) -> tuple["Tensor", "Tensor"]:
        """Cosines, descending, and positions in ``train_rows`` of each test sample's neighbours: (n, k)."""
        import torch
        from torch.nn.functional import normalize

        num_test = len(test_rows)
        best = torch.full((num_test, self.k), -torch.inf, device=device)
        places = torch.zeros((num_test, self.k), dtype=torch.int64, device=device)
        with progress_bar(num_test, "samples") as progress:
            for first in range(0, len(train_rows), TRAIN_CHUNK):
                bank = normalize(load(features, train_rows[first : first + TRAIN_CHUNK], device)).T
                positions = torch.arange(first, first + bank.shape[1], device=device)
                for start in range(0, num_test, TEST_CHUNK):
                    chunk = slice(start, start + TEST_CHUNK)
                    cosines = normalize(load(features, test_rows[chunk], device)) @ bank
                    both = torch.cat([best[chunk], cosines], dim=1)
                    origin = torch.cat([places[chunk], positions.expand_as(cosines)], dim=1)
                    best[chunk], among = both.topk(self.k, dim=1)
                    places[chunk] = origin.gather(1, among)
                    progress.update(len(cosines) * len(positions) / len(train_rows))
        return best, places

    def _vote(self, cosines: "Tensor", classes: "Tensor", truth: "Tensor", num_classes: int) -> "Tensor":
        """The rank of the true class, (n,), from the neighbours' cosines and classes, (n, k)."""
        weights = ((cosines - cosines[:, :1]) / self.temperature).exp()  # the nearest counts 1: no overflow
        votes = weights.new_zeros(len(truth), num_classes)
        for weight, voted in zip(weights.T, classes.T, strict=True):
            votes.scatter_add_(1, voted[:, None], weight[:, None])  # one by one: the order of sums is fixed
        without_vote = votes.gather(1, truth[:, None])[:, 0] == 0
        return rank_of_truth(votes, truth).masked_fill(without_vote, num_classes)
