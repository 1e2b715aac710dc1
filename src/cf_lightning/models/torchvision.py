"""Any torchvision classification network as a trunk, by name."""

from typing import TYPE_CHECKING

from cf_lightning.errors import ConfigError
from cf_lightning.models.base import TrunkRecipe, unfetched

if TYPE_CHECKING:
    from torch import Tensor
    from torchvision.models import WeightsEnum

    from cf_lightning.models.trunk import Trunk

# weights that came from TensorFlow; torchvision maps its own mean and std to these in their forward pass
PORTED = ("googlenet", "inception_v3")
PORTED_MEAN = PORTED_STD = (0.5, 0.5, 0.5)


class TorchvisionTrunk(TrunkRecipe):
    """A network of ``torchvision.models`` with its last linear layer removed.

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

        from cf_lightning.models.image_size import watch_size
        from cf_lightning.models.trunk import Trunk

        names = models.list_models(module=models)
        if self.name not in names:
            close = difflib.get_close_matches(self.name, names, n=3) or names[:3]
            raise ConfigError(
                f"model.name={self.name}: not a torchvision classification network; near: {close}"
            )
        extras = {"aux_logits": False, "init_weights": True} if self.name in PORTED else {}
        network = models.get_model(self.name, weights=None, **extras)
        linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise ConfigError(f"model.name={self.name}: has no linear classifier that could be removed")
        parent, _, last = linear[-1].rpartition(".")
        feature_dim = network.get_submodule(linear[-1]).in_features
        setattr(network.get_submodule(parent), last, nn.Identity())
        if self.name.startswith(("vit", "maxvit")):
            advice = "set data.view.crop=224, or take the network from timm"
            watch_size(network, (224, 224), lambda: models.get_model(self.name), advice)
        return Trunk(network, feature_dim)

    def pretrained(self, weights: str) -> "tuple[Trunk, str]":
        """The trunk with torchvision's weights ``weights``, such as IMAGENET1K_V1, and their mean and std.

        They are looked for in torch's cache (``TORCH_HOME``) first.
        """
        import torch

        from cf_lightning.models.state_dict import match

        trunk = self.build()
        tag = self._tag(weights)
        found = match(trunk.network.state_dict(), self._fetched(tag), prefix="")
        if found.share < 1:
            raise ConfigError(f"teacher.weights={weights}: made for another size of {self.name}: {found}")
        trunk.network.load_state_dict(found.weights, strict=False)
        preset = tag.transforms()
        mean, std = (PORTED_MEAN, PORTED_STD) if self.name in PORTED else (preset.mean, preset.std)
        trunk.mean.copy_(torch.tensor(mean).view(3, 1, 1))
        trunk.std.copy_(torch.tensor(std).view(3, 1, 1))
        return trunk, tag.name

    def _tag(self, weights: str) -> "WeightsEnum":
        from torchvision import models

        known = models.get_model_weights(self.name)
        if weights not in known.__members__:
            tags = ", ".join(known.__members__) or "none"
            raise ConfigError(f"teacher.weights={weights}: of {self.name} torchvision has {tags}")
        return known[weights]

    def _fetched(self, tag: "WeightsEnum") -> "dict[str, Tensor]":
        """The tensors by today's names: DenseNet's are older than torchvision's own."""
        import pickle
        import re

        try:
            tensors = tag.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise unfetched(f"{self.name} {tag.name} of torchvision", error) from error
        return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.", r"\1", name): t for name, t in tensors.items()}
