"""The stage that measures a frozen trunk by a linear probe on augmented images."""

from typing import TYPE_CHECKING, ClassVar

from cf_lightning.stages.extract import POOLED
from cf_lightning.stages.finetune import Finetune

if TYPE_CHECKING:
    from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier


class AugmentedProbe(Finetune):
    """The linear probe as published (Goyal et al. 2019, section 6.1; VISSL): it sees random crops and flips.

    The trunk keeps its weights and its running statistics; batch norm and a linear layer on its pooled
    features learn. ``transfer.linear.LinearProbe`` is the same on features of the centre view, which are
    computed once and not in every epoch.
    """

    VERSION: ClassVar[int] = 1
    NAME: ClassVar[str] = "linear_augmented"
    LAYER: ClassVar[str] = POOLED

    def _classifier(self, num_classes: int | dict[str, int]) -> "PseudoLabelClassifier":
        from torch import nn

        module = super()._classifier(num_classes)
        module.trunk.requires_grad_(False).eval()  # Lightning keeps a module's mode in a fit
        module.head.embed = nn.BatchNorm1d(module.trunk.feature_dim)
        return module
