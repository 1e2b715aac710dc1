"""Optimiser steps that touch only those rows of a head that the step has used."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cf_lightning.heads.head import Head


class RowsOnly:
    """Momentum, weight decay and update of the classes that competed; the others rest as they are.

    As Partial FC does it: at a million classes, reading and writing all of them would take longer than the
    network. While the optimiser steps, parameter, gradient and state are those of the rows. It works with
    every optimiser whose state has the parameter's shape. Where several backward passes make a step, its rows
    are those that competed in any of them.

    Args:
        head: says which rows.
    """

    def __init__(self, head: Head) -> None:
        self.head = head
        self._used = torch.empty(0, dtype=torch.int64)  # (s,), ascending
        self._rows: list[Tensor] = []  # copies of these rows, with their gradients
        self._whole: dict[nn.Parameter, dict[str, Tensor]] = {}

    @torch.no_grad()
    def add(self) -> None:
        """After each backward pass: gradients of a step's passes add up."""
        taken, used = self.head.taken, self.head.used
        if not taken or used is None:  # all classes take part
            return
        if self._rows:
            every = torch.cat([self._used, used])
            used, places = every.unique(return_inverse=True)  # type: ignore[no-untyped-call]
            taken = [
                _with_gradient(classes[used], places, old, new)
                for classes, old, new in zip(self.head.classes(), self._rows, taken, strict=True)
            ]
        self._used, self._rows, self.head.taken = used, taken, []

    @torch.no_grad()
    def cut(self, optimizer: Optimizer) -> None:
        """After a step's last backward pass, before anything looks at the gradients."""
        for classes, rows in zip(self.head.classes(), self._rows, strict=False):
            state = optimizer.state[classes]
            whole = {n: value for n, value in state.items() if _is_like(value, classes)}
            state.update({name: value[self._used] for name, value in whole.items()})
            self._whole[classes] = whole | {"": classes.data}
            classes.data, classes.grad = rows.data, rows.grad
        self._rows = []

    @torch.no_grad()
    def put_back(self, optimizer: Optimizer) -> None:
        """After the step."""
        for classes, whole in self._whole.items():
            state, weight = optimizer.state[classes], whole.pop("")
            for name in [name for name, value in state.items() if _is_like(value, classes)]:
                every = whole[name] if name in whole else torch.zeros_like(weight)  # (K, D): not in vain
                every[self._used] = state[name]
                state[name] = every
            weight[self._used] = classes.data
            classes.grad = None
            classes.data = weight
        self._whole.clear()


def _is_like(value: object, classes: nn.Parameter) -> bool:
    return isinstance(value, Tensor) and value.shape == classes.shape


def _with_gradient(rows: Tensor, places: Tensor, *parts: Tensor) -> Tensor:
    """``rows`` with the gradients of ``parts``, which lie one after the other at ``places``."""
    gradients = [part.grad for part in parts if part.grad is not None]
    rows.grad = torch.zeros_like(rows).index_add_(0, places, torch.cat(gradients))
    return rows
