"""``Ranking``: how many classes a classifier places before the true one, sample by sample."""

from lightning.pytorch import LightningModule
from torch import Tensor

from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier
from cf_lightning.transfer.base import rank_of_truth


class Ranking(LightningModule):
    """Only ``predict_step``; use it with ``trainer.predict`` and a ``RowWriter``.

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
