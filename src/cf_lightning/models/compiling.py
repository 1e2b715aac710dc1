"""``torch.compile`` of a network, which goes on without it where it fails."""

import logging
from typing import Any

from torch import nn
from torch._dynamo.exc import TorchDynamoException

log = logging.getLogger(__name__)


def compile_network(network: nn.Module) -> None:
    """Compile a network in place, when it is first called; names and weights stay.

    Only calls in the mode that it is in now (training or evaluation) are compiled: those are of one shape,
    but the last batch of a validation is of another one, and each shape is compiled anew. Where compiling
    fails, a warning says so once, and the network is called as it is.
    """
    network.compile(dynamic=False)
    network._compiled_call_impl = _OrEager(network, network._compiled_call_impl)


class _OrEager:
    """In place of a module's compiled call."""

    def __init__(self, network: nn.Module, compiled: Any) -> None:
        self.network, self.compiled, self.training = network, compiled, network.training

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        eager: Any = self.network._call_impl
        if self.compiled is None or self.network.training != self.training:
            return eager(*args, **kwargs)
        try:
            return self.compiled(*args, **kwargs)
        except TorchDynamoException as error:
            # of the backend's errors the first line says which backend, and the second what
            reason = " ".join(str(error).splitlines()[:2])
            log.warning("compile=true: torch.compile failed and is left out, which is slower: %s", reason)
            self.compiled = None
            return eager(*args, **kwargs)
