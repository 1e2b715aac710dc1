"""A checkpoint of a divided head has all classes, so that any number of ranks can continue from it."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from cf_lightning.heads.head import Head
from cf_lightning.heads.place import Shard

NUMBERS = "numbers_of_classes"  # of the head's parameters among the optimiser's


def assemble(checkpoint: dict[str, Any], head: Head, optimizers: Sequence[Optimizer]) -> None:
    """Put all ranks' classes and their optimiser state into every rank's checkpoint, in place."""
    classes = {id(parameter) for parameter in head.classes()}
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    every = [parameter for group in groups for parameter in group["params"]]
    checkpoint[NUMBERS] = [number for number, one in enumerate(every) if id(one) in classes]
    if isinstance(head.place, Shard):
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
    states = checkpoint["optimizer_states"][0]["state"]
    for number in checkpoint[NUMBERS]:  # a new dictionary: the old one is the optimiser's own
        state = states.get(number, {}).items()
        states[number] = {n: change(v) if isinstance(v, Tensor) and v.ndim else v for n, v in state}
