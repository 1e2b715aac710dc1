"""Batch normalisation within the convolutions before it: a pass over memory less for each layer."""

from collections import Counter
from collections.abc import Collection
from typing import Any

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batch_norm(network: nn.Module, keep: Collection[str] = ()) -> int:
    """Fold each batch norm into the convolution that it follows, in place, and put the identity there.

    Of a network in evaluation mode the outputs stay as they are up to rounding. In bf16 that is less than
    without: the mean is subtracted before a convolution's sum is rounded, not after it.

    Args:
        network: names of its modules stay. One that cannot be traced, such as one whose forward pass
            depends on values, is left as it is.
        keep: names of modules whose own outputs are wanted.

    Returns:
        how many were folded.
    """
    pairs = [(conv, norm) for conv, norm in _pairs(network) if conv not in keep]
    for conv, norm in pairs:
        parts: Any = network.get_submodule(conv), network.get_submodule(norm)
        network.set_submodule(conv, fuse_conv_bn_eval(*parts))
        network.set_submodule(norm, nn.Identity())
    return len(pairs)


def _pairs(network: nn.Module) -> list[tuple[str, str]]:
    """Names of convolutions and of the norms that alone read them, each used once in a forward pass."""
    was_training = network.training
    try:
        graph = fx.Tracer().trace(network.eval())
    except Exception:  # whatever a forward pass does to something that is no tensor
        return []
    finally:
        network.train(was_training)
    calls = [node for node in graph.nodes if node.op == "call_module"]
    times = Counter(node.target for node in calls)
    found = []
    for node in calls:
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        conv, norm = network.get_submodule(str(before.target)), network.get_submodule(str(node.target))
        # subclasses do something of their own: timm's have the activation within
        if type(conv) not in CONVOLUTIONS or type(norm) not in NORMS or norm.running_var is None:
            continue
        if times[before.target] == times[node.target] == 1:
            found.append((str(before.target), str(node.target)))
    return found
