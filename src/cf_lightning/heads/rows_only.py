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
        """After the backward pass, before anything looks at the gradients."""
        for classes, rows in zip(self.head.classes(), self.head.taken, strict=False):  # of all there are none
            state = optimizer.state[classes]
            whole = {n: value for n, value in state.items() if _is_like(value, classes)}
            state.update({name: value[self.head.used] for name, value in whole.items()})
            self._whole[classes] = whole | {"": classes.data}
            classes.data, classes.grad = rows.data, rows.grad
        self.head.taken = []

    @torch.no_grad()
    def put_back(self, optimizer: Optimizer) -> None:
        """After the step."""
        for classes, whole in self._whole.items():
            state, weight = optimizer.state[classes], whole.pop("")
            for name in [name for name, value in state.items() if _is_like(value, classes)]:
                every = whole[name] if name in whole else torch.zeros_like(weight)  # (K, D): not in vain
                every[self.head.used] = state[name]
                state[name] = every
            weight[self.head.used] = classes.data
            classes.grad = None
            classes.data = weight
        self._whole.clear()


def _is_like(value: object, classes: nn.Parameter) -> bool:
    return isinstance(value, Tensor) and value.shape == classes.shape
