"""Optimiser steps that touch only those rows of a head that the step has used."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cf_lightning.heads.head import Head


class RowsOnly:
    """Momentum, weight decay and update of the classes that competed; the others rest as they are.

    As Partial FC does it: at a million classes, reading and writing all of them would take longer than the
    network. While the optimiser steps, parameter, gradient and state are those of the rows. It works with
    every optimiser whose state has the parameter's shape.

    Args:
        head: says which rows.
    """

    def __init__(self, head: Head) -> None:
        self.head = head
        self._whole: dict[nn.Parameter, dict[str, Tensor]] = {}

    @torch.no_grad()
    def cut(self, optimizer: Optimizer) -> None:
        """After the backward pass and before the step."""
        for classes in self.head.classes() if self.head.used is not None else ():
            state = optimizer.state[classes]
            whole = {n: value for n, value in state.items() if _is_like(value, classes)}
            state.update({name: value[self.head.used] for name, value in whole.items()})
            gradient, classes.grad = classes.grad, None
            self._whole[classes] = whole | {"": classes.data}
            classes.data = classes.data[self.head.used]
            classes.grad = None if gradient is None else gradient[self.head.used]

    @torch.no_grad()
    def put_back(self, optimizer: Optimizer) -> None:
        """After the step."""
        for classes, whole in self._whole.items():
            state, weight = optimizer.state[classes], whole.pop("")
            for name in [name for name, value in state.items() if _is_like(value, classes)]:
                every = whole.get(name, torch.zeros_like(weight))
                every[self.head.used] = state[name]
                state[name] = every
            weight[self.head.used] = classes.data
            classes.grad = None
            classes.data = weight
        self._whole.clear()


def _is_like(value: object, classes: nn.Parameter) -> bool:
    return isinstance(value, Tensor) and value.shape == classes.shape
