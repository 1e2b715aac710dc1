"""Images of a size that a network cannot take: one message in place of the network's own."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from cf_lightning.errors import ConfigError


def watch_size(
    network: nn.Module, made_for: tuple[int, int], rebuild: Callable[[], Any], advice: str
) -> None:
    """Refuse images of a size for which the network's forward pass fails.

    The first time that another size than ``made_for`` comes, a copy on the device ``meta`` tries it.

    Args:
        network: gets a hook before its forward pass, which takes (B, 3, H, W).
        made_for: height and width in pixels.
        rebuild: makes the copy.
        advice: the end of the message, what to set.
    """
    taken = {made_for}

    def check(module: nn.Module, inputs: Any) -> None:
        height, width = size = inputs[0].shape[-2:]
        if size in taken:
            return
        try:
            with torch.device("meta"), torch.no_grad():
                rebuild().eval()(torch.zeros(1, 3, height, width))
        except Exception as error:  # each network has its own
            raise ConfigError(
                f"images of {height}x{width} px: the network takes {made_for[0]}x{made_for[1]}; {advice}"
            ) from error
        taken.add(size)

    network.register_forward_pre_hook(check)
