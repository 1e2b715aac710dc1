"""``FeatureExtractionModule``: features of a trunk, batch by batch, each with its row."""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional

from cf_lightning.models.trunk import Trunk


class FeatureExtractionModule(LightningModule):
    """Only ``predict_step``; use it with ``trainer.predict`` and a ``RowWriter`` or ``KMeansCallback``.

    Args:
        trunk: put into evaluation mode by Lightning.
        layer: name of a sub-module of the trunk's network; default its output, the pooled
            penultimate features.
        dtype: of the features returned.
        normalize: divide each feature by its L2 norm.
    """

    def __init__(
        self,
        trunk: Trunk,
        layer: str | None = None,
        dtype: torch.dtype = torch.float16,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self.trunk = trunk.channels_last()
        self.features = trunk if layer is None else trunk.layer(layer)
        self.out_dtype, self.normalize = dtype, normalize

    def predict_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> tuple[Tensor, Tensor]:
        """``(inputs, targets, index)`` to ``(index, features)``: (B,) int64 and (B, D) ``dtype``.

        Of inputs in V views each, (B, V, ...), as ``VideoClipDataModule`` has them, (B, V, D).
        """
        inputs, _, index = batch
        features = self.features(inputs).float()
        if self.normalize:
            features = functional.normalize(features, dim=-1)
        return index, features.to(self.out_dtype)
