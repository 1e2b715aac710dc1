"""Any torchvision classification network as a trunk, by name."""

from typing import TYPE_CHECKING

from cf_lightning.errors import ConfigError
from cf_lightning.models.base import TrunkRecipe

if TYPE_CHECKING:
    from cf_lightning.models.trunk import Trunk


class TorchvisionTrunk(TrunkRecipe):
    """A network of ``torchvision.models`` with its last linear layer removed, randomly initialised.

    Attributes:
        name: as in ``torchvision.models.list_models()``, such as ``resnet50``.
    """

    name: str = "resnet50"

    def build(self) -> "Trunk":
        """The trunk with random weights from torch's global generator.

        Raises:
            ConfigError: no such network, or it has no linear classifier to remove.
        """
        import difflib

        from torch import nn
        from torchvision import models

        from cf_lightning.models.trunk import Trunk

        names = models.list_models(module=models)
        if self.name not in names:
            close = difflib.get_close_matches(self.name, names, n=3) or names[:3]
            raise ConfigError(
                f"model.name={self.name}: not a torchvision classification network; near: {close}"
            )
        extras = {"aux_logits": False} if self.name in ("googlenet", "inception_v3") else {}
        if extras:
            extras["init_weights"] = True
        network = models.get_model(self.name, weights=None, **extras)
        linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise ConfigError(f"model.name={self.name}: has no linear classifier that could be removed")
        parent, _, last = linear[-1].rpartition(".")
        feature_dim = network.get_submodule(linear[-1]).in_features
        setattr(network.get_submodule(parent), last, nn.Identity())
        return Trunk(network, feature_dim)
