"""What a classifier says of test samples: ``Ranking`` where they have one label, else ``ClassScores``."""

from lightning.pytorch import LightningModule
from torch import Tensor

from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier
from cf_lightning.transfer.accuracy import rank_of_truth


class Ranking(LightningModule):
    """How many classes are placed before the true one; only ``predict_step``, for a ``RowWriter``.

    Args:
        classifier: of one head; put into evaluation mode by Lightning.
    """

    def __init__(self, classifier: PseudoLabelClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def predict_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> tuple[Tensor, Tensor]:
        """``(inputs, targets, index)`` to ``(index, ranks)``: (B,) and (B, 1) int64.

        Of inputs in V views each, (B, V, ...), by the mean of their probabilities.
        """
        inputs, targets, index = batch
        scores = self.classifier(inputs)
        if scores.ndim == 3:
            scores = scores.softmax(2).mean(1)
        return index, rank_of_truth(scores, targets)[:, None]


class ClassScores(Ranking):
    """As ``Ranking``, but with the score of each class."""

    def predict_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> tuple[Tensor, Tensor]:
        """``(inputs, targets, index)`` to ``(index, scores)``: (B,) int64 and (B, C) float32.

        Logits; of inputs in V views each, (B, V, ...), the mean of their probabilities.
        """
        inputs, _, index = batch
        scores = self.classifier(inputs)
        return index, scores.sigmoid().mean(1) if scores.ndim == 3 else scores
