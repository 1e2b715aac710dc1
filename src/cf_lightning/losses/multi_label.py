"""Several clusters of a sample at once: all of them shall be nearer than all others.

Sources: An et al. 2024, "Multi-label Cluster Discrimination for Visual Representation Learning" (ECCV),
section 3; of the first loss also Sun et al. 2020, "Circle Loss" (CVPR), equation 1.
"""

from typing import TYPE_CHECKING, ClassVar

from cf_lightning.losses.base import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from cf_lightning.heads.scores import Scores


class MLC(Loss):
    """Multi-label classification: ``log(1 + sum_neg exp(s_j) sum_pos exp(-s_i))``.

    Every positive is compared with every negative.
    """

    LINEAR: ClassVar[bool] = False

    def __call__(self, scores: "Scores") -> "Tensor":
        """(B,) float32."""
        from torch.nn import functional

        return functional.softplus(_positives(scores) + scores.negatives()) * scores.labels.known


class MLCD(Loss):
    """Multi-label cluster discrimination: ``log(1 + sum_pos exp(-s_i)) + log(1 + sum_neg exp(s_j))``.

    Positives and negatives are compared with zero, which takes less of a label that is wrong.
    """

    LINEAR: ClassVar[bool] = False

    def __call__(self, scores: "Scores") -> "Tensor":
        """(B,) float32."""
        from torch.nn import functional

        loss = functional.softplus(_positives(scores)) + functional.softplus(scores.negatives())
        return loss * scores.labels.known


def _positives(scores: "Scores") -> "Tensor":
    """(B,) float32: logarithm of the sum of exp(-logit) over the labels of a sample."""
    from cf_lightning.heads.scores import MASKED

    return (-scores.positives()).where(scores.labels.weights > 0, MASKED).logsumexp(1)
