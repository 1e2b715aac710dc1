"""Cross-entropy with a softmax over all classes."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from cf_lightning.losses.base import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from cf_lightning.heads.scores import Scores


class CrossEntropy(Loss):
    """Several labels of a sample share its target, by their weights.

    Attributes:
        label_smoothing: share of the target that all classes have in equal parts (Szegedy et al. 2016).
    """

    LINEAR: ClassVar[bool] = True

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)

    def __call__(self, scores: "Scores") -> "Tensor":
        """(B,) float32."""
        from cf_lightning.heads.labels import TINY

        weights = scores.labels.weights
        loss = -(scores.log_p_of_labels() * weights).sum(1) / weights.sum(1).clamp(min=TINY)
        if self.label_smoothing:
            even = -scores.mean_log_p() * scores.labels.known
            loss = (1 - self.label_smoothing) * loss + self.label_smoothing * even
        return loss
