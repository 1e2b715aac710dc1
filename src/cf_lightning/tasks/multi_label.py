"""Training on all classes of a sample, each a question by itself."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cf_lightning.data.index import Index
from cf_lightning.tasks.base import Targets, Task

if TYPE_CHECKING:
    from torch import Tensor

    from cf_lightning.heads.scores import Scores


class MultiLabel(Task):
    """Binary cross-entropy with a sigmoid for each class, added over the classes of the data.

    What a sample has not is negative, the difficult (VOC) among it, as for the linear SVMs; a sample without
    any label takes no part.
    """

    OF_LABELS: ClassVar[bool] = True
    DIVIDES: ClassVar[bool] = False  # a class that is no label counts, too

    @property
    def not_linear(self) -> str:
        """Shares of mixed images would be shares of one label."""
        return "several labels a sample"

    def targets(self, data: Index, **inputs: Path) -> Targets:
        """(N, T) int64 classes of each sample, filled up with -1; T is 2 or more."""
        lists = data.table["labels"].combine_chunks()
        counts = pc.list_value_length(lists).to_numpy()
        classes = pc.index_in(pc.list_flatten(lists), pa.array(data.classes, pa.string())).to_numpy()
        values = np.full((len(data), max(2, counts.max(initial=0))), -1, np.int64)
        values[np.arange(values.shape[1]) < counts[:, None]] = classes
        return Targets(values, data.classes)

    def loss_of(self, scores: "Scores", images: "Tensor") -> "Tensor":
        """(B,) float32, 0 where a sample has no label."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        from cf_lightning.heads.scores import is_column

        truth = is_column(scores.labels.classes, scores.logits.shape[1])
        loss = binary_cross_entropy_with_logits(scores.logits.float(), truth.float(), reduction="none")
        return loss.sum(1) * scores.labels.known
