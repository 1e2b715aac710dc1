"""``FeatureExtractionModule``: features of a trunk, batch by batch, each with its row."""

from collections.abc import Callable, Sequence

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional

from cf_lightning.models.layers import Layers
from cf_lightning.models.trunk import Trunk


class FeatureExtractionModule(LightningModule):
    """Only ``predict_step``; use it with ``trainer.predict`` and a ``RowWriter`` or ``KMeansCallback``.

    Args:
        trunk: put into evaluation mode by Lightning.
        layers: names of sub-modules of the trunk's network, whose features stand beside each other; default
            its output, the pooled penultimate features.
        layer_dim: how finely a layer's map is averaged, see ``Layers``.
        dtype: of the features returned.
        normalize: divide each layer's feature by its L2 norm.
    """

    def __init__(
        self,
        trunk: Trunk,
        layers: Sequence[str] = (),
        layer_dim: int | None = None,
        dtype: torch.dtype = torch.float16,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self.trunk = trunk.channels_last()
        self.features: Callable[[Tensor], list[Tensor]] = lambda inputs: [trunk(inputs)]
        if layers:
            self.features = Layers(trunk, layers, layer_dim)
        self.out_dtype, self.normalize = dtype, normalize

    def predict_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> tuple[Tensor, Tensor]:
        """``(inputs, targets, index)`` to ``(index, features)``: (B,) int64 and (B, D) ``dtype``.

        Of inputs in V views each, (B, V, ...), as ``VideoClipDataModule`` has them, (B, V, D).
        """
        inputs, _, index = batch
        features = [one.float() for one in self.features(inputs)]
        if self.normalize:
            features = [functional.normalize(one, dim=-1) for one in features]
        return index, torch.cat(features, dim=-1).to(self.out_dtype)
