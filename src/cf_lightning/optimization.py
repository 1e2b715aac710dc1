"""The optimiser and its schedule, one recipe for every training stage."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from cf_lightning.config import Component

if TYPE_CHECKING:
    from torch import nn


class Optimization(Component):
    """SGD with linear warm-up, then steps or a cosine (Goyal et al. 2017; VISSL's ClusterFit recipe).

    Attributes:
        lr: learning rate for 256 samples; scaled linearly with the global batch.
        momentum: of SGD.
        nesterov: use Nesterov's momentum.
        weight_decay: of weights and biases; batch normalisation has none.
        warmup: share of the training in which the rate rises from a tenth to its full value.
        schedule: ``step`` multiplies by ``gamma`` at each milestone, ``cosine`` falls to zero.
        milestones: of ``step``, as shares of the training, so that a longer one stretches.
        gamma: factor at a milestone.
    """

    lr: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup: float = Field(default=0.0, ge=0, lt=1)
    schedule: Literal["step", "cosine"] = "step"
    milestones: list[Annotated[float, Field(gt=0, lt=1)]] = [30 / 105, 60 / 105, 90 / 105, 100 / 105]
    gamma: float = Field(default=0.1, gt=0, lt=1)

    def build(self, module: "nn.Module", batch_size: int, num_steps: int) -> dict[str, Any]:
        """Lightning's dictionary of an optimiser and a scheduler that steps after every batch.

        Args:
            module: its parameters that require a gradient are trained.
            batch_size: global.
            num_steps: optimiser steps in the whole training.
        """
        import torch
        from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, MultiStepLR, SequentialLR

        decayed, free = _parameter_groups(module)
        optimizer = torch.optim.SGD(
            [{"params": decayed, "weight_decay": self.weight_decay}, {"params": free, "weight_decay": 0.0}],
            lr=self.lr * batch_size / 256,
            momentum=self.momentum,
            nesterov=self.nesterov,
        )
        warmup_steps = round(self.warmup * num_steps)
        main: Any
        if self.schedule == "cosine":
            main = CosineAnnealingLR(optimizer, max(1, num_steps - warmup_steps))
        else:
            steps = [max(1, round(share * num_steps) - warmup_steps) for share in self.milestones]
            main = MultiStepLR(optimizer, steps, self.gamma)
        if warmup_steps:
            rise = LinearLR(optimizer, start_factor=0.1, total_iters=warmup_steps)
            main = SequentialLR(optimizer, [rise, main], milestones=[warmup_steps])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": main, "interval": "step"}}


def _parameter_groups(module: "nn.Module") -> tuple[list[Any], list[Any]]:
    """Parameters with weight decay, and those of normalisation layers without."""
    from torch import nn

    norms = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
    decayed: list[Any] = []
    free: list[Any] = []
    for layer in module.modules():
        group = free if isinstance(layer, norms) else decayed
        group += [p for p in layer.parameters(recurse=False) if p.requires_grad]
    return decayed, free
