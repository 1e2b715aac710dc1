"""A checkpoint of a divided head has all classes, so that any number of ranks can continue from it."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from cf_lightning.heads.head import Head
from cf_lightning.heads.place import Shard

NUMBERS = "numbers_of_classes"  # of the head's parameters among the optimiser's


def assemble(checkpoint: dict[str, Any], head: Head, optimizer: Optimizer) -> None:
    """Put all ranks' classes and their optimiser state into every rank's checkpoint, in place."""
    if isinstance(head.place, Shard):
        classes = {id(parameter) for parameter in head.classes()}
        every = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        checkpoint[NUMBERS] = [number for number, one in enumerate(every) if id(one) in classes]
        _change(checkpoint, head, head.place.assembled)


def divide(checkpoint: dict[str, Any], head: Head) -> None:
    """Leave this rank's part of them, in place."""
    if isinstance(head.place, Shard):
        _change(checkpoint, head, head.place.part)


def _change(checkpoint: dict[str, Any], head: Head, change: Callable[[Tensor], Tensor]) -> None:
    """Replace every tensor that has a row for each class, in the same order on every rank."""
    weights = checkpoint["state_dict"]
    for name in [f"head.{n}" for n, p in head.named_parameters() if any(p is c for c in head.classes())]:
        weights[name] = change(weights[name])
    for number in checkpoint[NUMBERS]:
        state = checkpoint["optimizer_states"][0]["state"][number]
        state.update({n: change(v) for n, v in state.items() if isinstance(v, Tensor) and v.ndim})
