"""Features of a network's inner layers, several in one forward pass."""

from collections.abc import Sequence
from math import isqrt
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d

from cf_lightning.errors import ConfigError
from cf_lightning.models.trunk import Trunk

# (C, h, w) of ResNet-50 at 224 px: kernel, stride and padding (Goyal et al. 2019, section 6.1; VISSL)
PUBLISHED = {
    (64, 112, 112): (10, 10, 4),
    (256, 56, 56): (16, 8, 0),
    (512, 28, 28): (13, 5, 0),
    (1024, 14, 14): (8, 3, 0),
    (2048, 7, 7): (6, 1, 0),
}


class Layers:
    """A function like ``Trunk.forward`` that gives the outputs of sub-modules instead.

    Maps (B, C, h, w) are averaged to a square grid, maps of clips over time, too, and token sequences
    (B, T, C) over tokens.

    Args:
        trunk: whose.
        names: of sub-modules of its network, as in ``layer3``.
        max_dim: the grid is the finest with at most so many numbers; with 9,216, ResNet-50's maps at 224 px
            have the published one and its overlapping windows. ``None`` averages over all of space.

    Raises:
        ConfigError: there is no such layer.
    """

    def __init__(self, trunk: Trunk, names: Sequence[str], max_dim: int | None = None) -> None:
        check_layers(trunk.network, names)
        self.trunk, self.names, self.max_dim = trunk, names, max_dim
        self._found: dict[str, Tensor] = {}
        for name in names:
            trunk.network.get_submodule(name).register_forward_hook(self._hook(name))

    def __call__(self, inputs: Tensor) -> list[Tensor]:
        """(..., 3, H, W) or (..., 3, T, H, W) uint8 to (..., D) of each layer."""
        self._found = {}
        self.trunk(inputs)
        idle = [name for name in self.names if name not in self._found]
        if idle:
            raise ConfigError(f"layers={idle}: no part of the forward pass")
        leading = inputs.shape[: -self.trunk.axes]
        return [self._found[name].reshape(*leading, -1) for name in self.names]

    def _hook(self, name: str) -> Any:
        def catch(module: nn.Module, inputs: Any, output: Any) -> None:
            # at once: the next module may work in place
            self._found[name] = self._pooled(name, output)

        return catch

    def _pooled(self, name: str, output: Any) -> Tensor:
        """(B, D) of a layer's output."""
        if not isinstance(output, Tensor):
            raise ConfigError(f"layers=[{name}]: it gives a {type(output).__name__} and no tensor")
        if output.ndim == 3:
            return output.mean(1)
        if output.ndim < 3:
            return output
        if _has_channels_last(self.trunk.network, name):
            output = output.movedim(-1, 1)
        if output.ndim == 5:
            output = output.mean(2)
        return grid(output, self.max_dim)


def grid(maps: Tensor, max_dim: int | None) -> Tensor:
    """(B, C, h, w) to (B, C * side * side), averaged; see ``Layers``."""
    if max_dim is None:
        return maps.mean((2, 3))
    channels, height, width = maps.shape[1:]
    side = max(1, min(isqrt(max_dim // channels), height, width))
    window = PUBLISHED.get((channels, height, width))
    if window and side == (height + 2 * window[2] - window[0]) // window[1] + 1:
        return avg_pool2d(maps, *window).flatten(1)
    return adaptive_avg_pool2d(maps, side).flatten(1)


def check_layers(network: nn.Module, names: Sequence[str]) -> None:
    """Raise ``ConfigError`` with the outer layers that there are, when one of ``names`` is none."""
    modules = [name for name, _ in network.named_modules() if name]
    for name in names:
        if name not in modules:
            outer = ", ".join(one for one in modules if one.count(".") < 2)
            raise ConfigError(f"layers=[{name}]: the network has no such layer; it has {outer}")


def _has_channels_last(network: nn.Module, name: str) -> bool:
    """Whether a layer's maps are (B, h, w, C) or (B, t, h, w, C): Swin's are."""
    from torchvision.models.swin_transformer import SwinTransformer
    from torchvision.models.video import SwinTransformer3d

    if isinstance(network, SwinTransformer | SwinTransformer3d):
        return name.split(".")[0] in ("patch_embed", "features", "norm") and name != "patch_embed.proj"
    return getattr(network, "output_fmt", "NCHW") == "NHWC"  # timm's
