"""Optimisers and their schedule, one recipe for every training stage."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from cf_lightning.config import Component

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

Beta = Annotated[float, Field(ge=0, lt=1)]


class Optimization(Component, ABC):
    """An optimiser with linear warm-up, then steps or a cosine.

    Attributes:
        lr: learning rate for 256 samples; scaled linearly with the global batch.
        weight_decay: of the parameters that the optimiser lets decay.
        warmup: share of the training in which the rate rises from a tenth to its full value.
        schedule: ``step`` multiplies by ``gamma`` at each milestone, ``cosine`` falls to zero.
        milestones: of ``step``, as shares of the training, so that a longer one stretches.
        gamma: factor at a milestone.
    """

    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup: float = Field(default=0.0, ge=0, lt=1)
    schedule: Literal["step", "cosine"] = "step"
    milestones: list[Annotated[float, Field(gt=0, lt=1)]] = [30 / 105, 60 / 105, 90 / 105, 100 / 105]
    gamma: float = Field(default=0.1, gt=0, lt=1)

    @abstractmethod
    def optimizer(self, module: "nn.Module", lr: float) -> "Optimizer":
        """The optimiser of the parameters of ``module`` that require a gradient, at the full rate ``lr``."""

    def build(self, module: "nn.Module", batch_size: int, num_steps: int) -> dict[str, Any]:
        """Lightning's dictionary of an optimiser and a scheduler that steps after every batch.

        Args:
            module: its parameters that require a gradient are trained.
            batch_size: global.
            num_steps: optimiser steps in the whole training.
        """
        from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, MultiStepLR, SequentialLR

        optimizer = self.optimizer(module, self.lr * batch_size / 256)
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


class SGD(Optimization):
    """SGD (Goyal et al. 2017; VISSL's ClusterFit recipe); all but normalisation layers decays.

    Attributes:
        momentum: of SGD.
        nesterov: use Nesterov's momentum.
    """

    lr: float = Field(default=0.1, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False

    def optimizer(self, module: "nn.Module", lr: float) -> "Optimizer":
        """SGD, in one kernel but where weights are divided, which that does not take (torch 2.15)."""
        import torch
        from torch.distributed.tensor import DTensor

        decayed, free = _parameter_groups(module)
        optimizer = torch.optim.SGD(
            [{"params": decayed, "weight_decay": self.weight_decay}, {"params": free, "weight_decay": 0.0}],
            lr=lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            fused=not any(isinstance(parameter, DTensor) for parameter in decayed + free),
        )
        if self.momentum:  # the kernel leaves it unset where a first step in float16 overflows and is skipped
            for parameter in decayed + free:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer


class AdamW(Optimization):
    """AdamW (Loshchilov and Hutter 2019), which transformers need; rate and decay are DeiT's and Swin's.

    Their 5e-4 for 512 samples is scaled linearly, too (Touvron et al. 2021, section 6). What does not decay
    is timm's choice: biases, normalisation, and what a network names, such as its position embeddings.

    Attributes:
        betas: decay of the running means of gradient and squared gradient.
    """

    lr: float = Field(default=2.5e-4, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    betas: Annotated[list[Beta], Field(min_length=2, max_length=2)] = [0.9, 0.999]

    def optimizer(self, module: "nn.Module", lr: float) -> "Optimizer":
        """AdamW in one kernel."""
        import torch
        from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]

        named = {
            f"{prefix}.{name}".lstrip(".")
            for prefix, layer in module.named_modules()
            if hasattr(layer, "no_weight_decay")
            for name in layer.no_weight_decay()
        }
        groups = param_groups_weight_decay(module, self.weight_decay, no_weight_decay_list=named)
        return torch.optim.AdamW(groups, lr=lr, betas=(self.betas[0], self.betas[1]), fused=True)


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
