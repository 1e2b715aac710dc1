"""What a ``model`` node is: a recipe that builds a randomly initialised trunk."""

from abc import ABC, abstractmethod
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from cf_lightning.config import Component
from cf_lightning.errors import ConfigError

if TYPE_CHECKING:
    from cf_lightning.data.source import Source
    from cf_lightning.models.trunk import Trunk


class TrunkRecipe(Component, ABC):
    """Settings of an architecture; weights come from an artifact's folder, the seed, or their publisher.

    Attributes:
        TAKES: what an input is: ``images`` or ``clips``.
    """

    TAKES: ClassVar[str] = "images"

    @abstractmethod
    def build(self) -> "Trunk":
        """The trunk with random weights from torch's global generator."""

    def pretrained(self, weights: str) -> "tuple[Trunk, str]":
        """The trunk with published weights, and the tag that these have.

        Args:
            weights: a tag of the publisher's; ``DEFAULT`` is the one that the publisher recommends.

        Raises:
            ConfigError: there are no such weights, or they cannot be fetched.
        """
        raise ConfigError(
            f"teacher.pretrained=true: {self!r} has no published weights; "
            "set teacher.pretrained=false, or teacher=file for weights that you have"
        )

    def check(self, data: "Source") -> None:
        """Raise ``ConfigError`` when ``data`` gives something else than the network takes."""
        if data.GIVES != self.TAKES:
            other = "resnet50" if data.GIVES == "images" else "r2plus1d_18"
            raise ConfigError(
                f"model={self!r}: it takes {self.TAKES}, and root={data.root} gives {data.GIVES}; "
                f"take a network of {data.GIVES}, such as model={other}"
            )

    def sized(self) -> "Trunk":
        """The trunk without weights (device ``meta``), for what a plan has to know of it beforehand."""
        import torch

        with torch.device("meta"):
            return self.build()

    def operations(self, shape: tuple[int, ...]) -> float:
        """Of one forward pass of one input of this shape; a multiplication and an addition are two."""
        return _counted(type(self), self.model_dump_json(), shape)

    def weight_bytes(self) -> int:
        """What the weights take in float32; a network that does not exist is found here, too."""
        return 4 * sum(int(tensor.numel()) for tensor in self.sized().state_dict().values())


@cache
def _counted(recipe: type[TrunkRecipe], settings: str, shape: tuple[int, ...]) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    trunk = recipe.model_validate_json(settings).sized().eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        trunk(torch.zeros(1, *shape, dtype=torch.uint8, device="meta"))
    return float(counter.get_total_flops())


def unfetched(what: str, error: Exception) -> ConfigError:
    """What to say when published weights are neither in the library's cache nor to be had."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return ConfigError(
        f"teacher.pretrained=true: the weights {what} cannot be fetched ({reason}); set "
        "teacher.pretrained=false for a random initialisation, or teacher=file for weights that you have"
    )
