"""Images or clips of a shape that a network cannot take: one message in place of the network's own."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from cf_lightning.errors import ConfigError


def watch_size(
    network: nn.Module, made_for: tuple[int, ...], rebuild: Callable[[], Any] | None, advice: str
) -> None:
    """Refuse images or clips of a shape for which the network's forward pass fails.

    The first time that another shape than ``made_for`` comes, a copy on the device ``meta`` tries it.

    Args:
        network: gets a hook before its forward pass, which takes (B, 3, H, W) or (B, 3, T, H, W).
        made_for: height and width in pixels, of clips with the number of frames before them.
        rebuild: makes the copy; None for a network that takes nothing but ``made_for``, and might not
            fail with a shape that has as many tokens.
        advice: the end of the message, what to set.
    """
    taken = {made_for}

    def check(module: nn.Module, inputs: Any) -> None:
        shape = tuple(inputs[0].shape[2:])
        if shape in taken:
            return
        try:
            if rebuild is None:
                raise ValueError("made for one shape")
            with torch.device("meta"), torch.no_grad():
                rebuild().eval()(torch.zeros(1, 3, *shape))
        except Exception as error:  # each network has its own
            kind = "images" if len(shape) == 2 else "clips"
            raise ConfigError(
                f"{kind} of {_text(shape)} px: the network takes {_text(made_for)}; {advice}"
            ) from error
        taken.add(shape)

    network.register_forward_pre_hook(check)


def _text(shape: tuple[int, ...]) -> str:
    *frames, height, width = shape
    return "".join(f"{count} frames of " for count in frames) + f"{height}x{width}"
