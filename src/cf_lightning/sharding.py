"""Fully sharded data parallelism: a process has a part of a trunk, and whole blocks while they compute."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor.experimental import implicit_replication
from torch.utils._pytree import tree_map_only

LEAST, MOST = 1 / 1000, 1 / 4  # of a trunk's weights in a unit


class ShardStrategy(DDPStrategy):
    """``DDPStrategy``, but weights, gradients and optimiser state of the trunk are divided (torch's FSDP2).

    In training each process has its part of every weight. The whole of a unit is put together when it
    computes, forward and backward, and dropped after it. The head is as under DDP, where only very large
    ones are divided (``heads/place.py``).

    Checkpoints are those of one process: they are read before the trunk is divided, and written whole by
    rank zero.
    """

    def configure_ddp(self) -> None:
        """Divide in place of wrapping."""
        assert self.lightning_module is not None
        self.divide(self.lightning_module)

    def divide(self, module: nn.Module) -> None:
        """Leave this process's part of every weight of ``module.trunk``, in place."""
        trunk: Any = module.trunk
        trunk.to(memory_format=torch.contiguous_format)  # it divides no other
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        for unit in [*units(trunk), trunk]:
            fully_shard(unit, mesh=mesh, reshard_after_forward=True)

    def post_backward(self, closure_loss: Tensor) -> None:
        """Average the gradients of what is not divided; a head that is sees to its classes itself."""
        module: Any = self.lightning_module
        own = getattr(module, "_ddp_params_and_buffers_to_ignore", ())
        for name, parameter in module.named_parameters():
            gradient = parameter.grad
            if gradient is not None and name not in own and not isinstance(gradient, DTensor):
                gradient /= self.world_size
                torch.distributed.all_reduce(gradient)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> Any:
        """Optimisers take all weights at once, of which some are divided."""
        with implicit_replication():
            return super().optimizer_step(*args, **kwargs)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any | None = None
    ) -> None:
        """Every rank has to call this."""
        whole = tree_map_only(DTensor, self._on_rank_zero, checkpoint)
        super().save_checkpoint(whole, filepath, storage_options)

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        """The weights have been read before they were divided; this is after it."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            every = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            for number, values in state["state"].items():
                values |= {name: _as(every[number], value) for name, value in values.items()}
            for group, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
                saved["fused"] = group["fused"]  # whether there is one kernel for all of a step
        super().load_optimizer_state_dict(checkpoint)

    def _on_rank_zero(self, part: DTensor) -> Tensor | None:
        whole = part.full_tensor()
        return whole.cpu() if self.is_global_zero else None


def units(network: nn.Module) -> list[nn.Module]:
    """What is put together at once: the blocks of a network, whatever their class.

    They are the parts of its ``nn.Sequential`` and ``nn.ModuleList``, and of too large parts their own;
    what is in none of them is put together with the whole.
    """
    total = _weights(network)
    return list(_blocks(network, LEAST * total, MOST * total))


def assemble(trunk: nn.Module) -> None:
    """Have the whole weights again; every rank has to call this."""
    for part in trunk.modules():
        for name, weight in [*part.named_parameters(recurse=False)]:
            if isinstance(weight, DTensor):
                setattr(part, name, nn.Parameter(weight.full_tensor()))


def _blocks(network: nn.Module, least: float, most: float) -> Iterator[nn.Module]:
    lists = (nn.Sequential, nn.ModuleList)
    for part in network.children():
        if isinstance(network, lists) and type(part) not in lists and least <= _weights(part) <= most:
            yield part
        else:
            yield from _blocks(part, least, most)


def _weights(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _as(parameter: Tensor, value: Any) -> Any:
    """Optimiser state, divided as the weights that it belongs to."""
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
