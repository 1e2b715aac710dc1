"""ClusterFit's own task: which cluster an image belongs to (Yan et al. 2020, section 3)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field, model_validator

from cf_lightning.data.index import Index
from cf_lightning.heads.base import HeadRecipe
from cf_lightning.heads.cosine import Cosine
from cf_lightning.heads.linear import Linear
from cf_lightning.losses.base import Loss
from cf_lightning.losses.cross_entropy import CrossEntropy
from cf_lightning.rows import open_rows, read_rows
from cf_lightning.tasks.base import Targets, Task

if TYPE_CHECKING:
    from torch import Tensor

    from cf_lightning.heads.head import Head
    from cf_lightning.heads.labels import Labels
    from cf_lightning.heads.scores import Scores

UNIT = 2**30  # shares of soft targets are whole multiples of its inverse, to stand beside class numbers


class Clusters(Task):
    """Targets are the assignments of a cluster artifact, and so is the width of the head.

    What ``clusterfit.relabel`` makes of the clusters may give a sample several of them.

    Attributes:
        loss: of logits and labels.
        head: how features are compared with clusters.
        power: images of a cluster of n training images are drawn ``n ** -power`` as often: 0.5 is
            square-root, 1 uniform sampling over the clusters (DeepCluster, Caron et al. 2018).
        temperature: T of soft targets: a sample's clusters share its target by softmax(-d / T), d the
            squared distance; ``null`` shares it evenly.
    """

    loss: Loss = CrossEntropy()
    head: HeadRecipe = Linear()
    power: float = Field(default=0.0, ge=0, le=1)
    temperature: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        if self.temperature is not None and not self.loss.LINEAR:
            raise ValueError(
                f"temperature={self.temperature} shares a target among clusters, and the loss "
                f"{type(self.loss).__name__} knows no shares; take temperature=null or loss=cross_entropy"
            )
        smoothing = isinstance(self.loss, CrossEntropy) and self.loss.label_smoothing
        if smoothing and isinstance(self.head, Cosine) and self.head.near is not None:
            raise ValueError(
                f"loss.label_smoothing={smoothing} gives every cluster a share, and head.near="
                f"{self.head.near} leaves some out; take one of them"
            )
        return self

    def targets(self, data: Index, **inputs: Path) -> Targets:
        """(N,) int64 cluster ids, or (N, l) of the nearest l; with shares (N, 2 l): ids, then shares.

        -1 where a sample could not be decoded or its cluster was dropped.
        """
        labels = np.array(read_rows(inputs["labels"], "labels", data))
        ids = labels.reshape(len(labels), -1)
        k = json.loads((inputs["labels"] / "labels.json").read_text())["k"]
        if self.temperature is not None:
            from scipy.special import softmax

            distances = open_rows(inputs["labels"] / "distances.npy").reshape(ids.shape)
            units = np.rint(UNIT * softmax(-distances / self.temperature, axis=1))
            labels = np.concatenate([ids, np.where(ids >= 0, units, -1).astype(np.int64)], axis=1)
        weights = self._weights(ids[:, 0], data.rows("train"), k) if self.power else None
        return Targets(labels, [f"cluster {number}" for number in range(k)], weights)

    def _weights(self, nearest: np.ndarray, train: np.ndarray, k: int) -> np.ndarray:
        """(N,) float64: how often a row is drawn; 0 without a cluster."""
        sizes = np.bincount(nearest[train] + 1, minlength=k + 1).astype(np.float64)
        return np.where(nearest >= 0, np.maximum(sizes, 1)[nearest + 1] ** -self.power, 0.0)

    def build_head(self, feature_dim: int, widths: Sequence[int]) -> "Head":
        """As ``head`` says."""
        return self.head.build(feature_dim, widths)

    def labels_of(self, targets: "Tensor") -> "Labels":
        """The clusters of a batch, evenly or by their shares."""
        if self.temperature is None:
            return super().labels_of(targets)
        from cf_lightning.heads.labels import Labels

        classes, shares = targets.chunk(2, dim=1)
        return Labels(classes, shares.clamp(min=0) / UNIT)

    def loss_of(self, scores: "Scores", images: "Tensor") -> "Tensor":
        """As ``loss`` says."""
        return self.loss(scores)

    @property
    def not_linear(self) -> str:
        """The loss, where it is not."""
        return "" if self.loss.LINEAR else f"task.loss={type(self.loss).__name__}"
