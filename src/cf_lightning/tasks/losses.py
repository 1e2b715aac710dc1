"""The losses and hits of classification, sample by sample."""

from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each sample in float32, 0 where it has no target.

    Args:
        logits: (B, K).
        targets: (B,) int64 classes, or (B, T) int64 classes that share the target evenly; -1 is none.

    Returns:
        (B,) float32.
    """
    targets = targets.view(len(targets), -1)
    present = (targets >= 0).float()
    log_p = functional.log_softmax(logits.float(), dim=1).gather(1, targets.clamp(min=0))
    return -(log_p * present).sum(1) / present.sum(1).clamp(min=1)


def first_is_right(logits: Tensor, targets: Tensor) -> Tensor:
    """(B,) bool: whether the first prediction of (B, K) logits is (one of) the sample's targets."""
    return (targets.view(len(targets), -1) == logits.argmax(1, keepdim=True)).any(1)
