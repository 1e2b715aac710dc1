"""Any torchvision classification network as a trunk, by name."""

from typing import TYPE_CHECKING

from cf_lightning.errors import ConfigError
from cf_lightning.models.base import TrunkRecipe, unfetched

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor, nn
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
        from torch import nn
        from torchvision import models

        from cf_lightning.models.input_size import watch_size
        from cf_lightning.models.trunk import Trunk

        check_name(self.name, models)
        extras = {"aux_logits": False, "init_weights": True} if self.name in PORTED else {}
        network = models.get_model(self.name, weights=None, **extras)
        if not any(isinstance(module, nn.Linear) for module in network.modules()):
            raise ConfigError(f"model.name={self.name}: has no linear classifier that could be removed")
        feature_dim = remove_classifier(network, nn.Linear)
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
        trunk.mean.copy_(torch.tensor(mean).view_as(trunk.mean))
        trunk.std.copy_(torch.tensor(std).view_as(trunk.std))
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


def check_name(name: str, module: "ModuleType") -> None:
    """Refuse a network that ``module``, torchvision's ``models`` or ``models.video``, has not."""
    import difflib

    from torchvision import models

    names = models.list_models(module=module)
    if name not in names:
        close = difflib.get_close_matches(name, names, n=3) or names[:3]
        kind = "video" if module is models.video else "classification"
        raise ConfigError(f"model.name={name}: not a torchvision {kind} network; near: {close}")


def classifier_of(network: "nn.Module", kind: "type[nn.Module]") -> str:
    """The name of the last layer of a kind, linear or a convolution."""
    names: list[str] = [name for name, module in network.named_modules() if isinstance(module, kind)]
    return names[-1]


def remove_classifier(network: "nn.Module", kind: "type[nn.Module]") -> int:
    """Put the identity in place of the last layer of a kind, linear or a convolution; the width it read."""
    from torch import nn

    place = classifier_of(network, kind)
    parent, _, last = place.rpartition(".")
    feature_dim = network.get_parameter(f"{place}.weight").shape[1]
    setattr(network.get_submodule(parent), last, nn.Identity())
    return feature_dim
