"""Knowledge distillation: a network learns what another one predicts (Hinton, Vinyals and Dean 2015)."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

from cf_lightning.data.index import Index
from cf_lightning.data.views import View
from cf_lightning.models.base import TrunkRecipe
from cf_lightning.tasks.base import Targets, Task

if TYPE_CHECKING:
    from torch import Tensor

    from cf_lightning.heads.scores import Scores
    from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier


class Distillation(Task):
    """Cross-entropy with the teacher's softened predictions over its own labels, and with hard labels.

    With logits z of the student and v of the teacher, temperature T and weight w, the loss of an image is
    ``w CE(z, label) + (1 - w) T^2 KL(softmax(v / T) || softmax(z / T))`` (section 2 there). Student and
    teacher see the same view of the image. ``val/top1`` is how often their first predictions agree.

    Attributes:
        model: the teacher's architecture.
        labels: the task that the teacher was trained on; for the hard labels.
        temperature: T.
        hard_weight: w. Above 0, images without a label take no part.
    """

    DIVIDES: ClassVar[bool] = False

    model: TrunkRecipe
    labels: Task
    temperature: float = Field(default=4.0, gt=0)
    hard_weight: float = Field(default=0.0, ge=0, le=1)

    _teacher: "PseudoLabelClassifier | None" = PrivateAttr(default=None)

    def check(self, data: Index, view: View) -> None:
        """With hard labels the data must have some."""
        if self.hard_weight:
            self.labels.check(data, view)

    def targets(self, data: Index, **inputs: Path) -> Targets:
        """(N,) or (N, T) int64: the data's labels as the teacher numbers them; 0 without hard labels."""
        names: list[str] = json.loads((inputs["teacher"] / "classes.json").read_text())
        if not self.hard_weight:
            return Targets(np.zeros(len(data), dtype=np.int64), names)
        own = self.labels.targets(data)
        number = np.array([*(names.index(name) for name in own.names), -1])
        return Targets(number[own.values], names)

    def prepare(self, **inputs: Path) -> None:
        """Load the teacher with its head."""
        from safetensors.torch import load_file

        from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier

        head = load_file(inputs["teacher"] / "head.safetensors")
        trunk = self.model.build().load(inputs["teacher"])
        teacher = PseudoLabelClassifier(trunk, len(head["weight"]))
        teacher.head.load_state_dict(head)
        self._teacher = teacher.requires_grad_(False).eval()

    def loss_of(self, scores: "Scores", images: "Tensor") -> "Tensor":
        """(B,) float32."""
        from torch.nn import functional

        told = self._told(images)
        log_q, log_p = (
            functional.log_softmax(z.float() / self.temperature, dim=1) for z in (told, scores.logits)
        )
        loss = self.temperature**2 * functional.kl_div(log_p, log_q, reduction="none", log_target=True).sum(1)
        if self.hard_weight:
            loss = self.hard_weight * super().loss_of(scores, images) + (1 - self.hard_weight) * loss
        return loss

    def right(self, scores: "Scores", images: "Tensor") -> "Tensor":
        """(B,) bool: the student's first prediction is the teacher's."""
        return scores.logits.argmax(1) == self._told(images).argmax(1)

    def _told(self, images: "Tensor") -> "Tensor":
        """(B, K) logits of the teacher."""
        import torch

        assert self._teacher is not None
        with torch.no_grad():
            told: Tensor = self._teacher.to(images.device)(images)
        return told
