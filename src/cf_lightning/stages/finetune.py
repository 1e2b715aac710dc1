"""The stage that fine-tunes a contestant on a target and measures what comes of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import Field

from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError
from cf_lightning.rows import open_rows
from cf_lightning.stages.train import Train
from cf_lightning.stages.transfer import write_scores
from cf_lightning.tasks.base import Targets, Task
from cf_lightning.tasks.multi_label import MultiLabel
from cf_lightning.tasks.supervised import Supervised
from cf_lightning.transfer.accuracy import accuracies
from cf_lightning.transfer.average_precision import mean_average_precision
from cf_lightning.transfer.base import Score
from cf_lightning.transfer.splits import Split, labelled_splits, shuffled_by_class

if TYPE_CHECKING:
    from cf_lightning.data.module import SampleDataModule
    from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier

SETTINGS = {
    *("label_share", "epochs", "batch_size", "accumulate", "optimization", "augmentation", "progressive"),
    *("mix", "ema", "precision", "seed"),
}


class Finetune(Train):
    """Train the whole network on the target's labels, then measure it on the target's test split.

    It begins with the weights of the input ``trunk``; without one it is a training from scratch. The network
    after the last epoch is measured, so nothing is chosen by the test split. Each test sample is predicted
    once, on one device; of one that is seen in several views (the clips of a video), the probabilities are
    the mean over them. Where samples have several labels, each class is a question by itself
    (``MultiLabel``).

    Writes ``metrics.json``, ``draws.npy`` and ``facts.json`` as ``Transfer`` does, and what ``Train`` writes.

    Attributes:
        NAME: in the result table, of a training on all labels.
        LAYER: in the result table.
        label_share: of the training labels that are used, the same of each class and at least one; drawn
            with ``seed``. Where samples have several labels, a share of all samples.
    """

    VERSION: ClassVar[int] = 2
    NAME: ClassVar[str] = "finetune"
    LAYER: ClassVar[str] = "all"

    task: Task = Supervised()
    label_share: float = Field(default=1.0, gt=0, le=1)

    @property
    def protocol(self) -> str:
        """The name in the result table."""
        return self.NAME if self.label_share == 1 else f"{self.NAME}_{100 * self.label_share:g}percent"

    def check(self, **indexes: Index) -> None:
        """As a training, and the target has a test split that can be measured."""
        index = indexes["data"]
        stage = self._for(index)
        super(Finetune, stage).check(**indexes)
        labelled_splits(index, np.empty(0, np.int64))
        num_used = int(stage._targets(index, {}).known[index.rows("train")].sum())
        if num_used < self.batch_size:
            share = "" if self.label_share == 1 else f" that label_share={self.label_share} uses"
            raise ConfigError(
                f"batch_size={self.batch_size} is more than the {num_used} labelled training samples{share} "
                f"of root={index.origin}; at most {num_used}"
            )

    def run(self, out: Path, **inputs: Path) -> None:
        """Train and measure, continuing where an earlier attempt was stopped."""
        from cf_lightning.callbacks.training_checkpoint import TrainingCheckpoint

        index = Index.read(inputs["data"])
        stage = self._for(index)
        # the checkpoint goes last, when the weights are whole
        if TrainingCheckpoint(out).found() or not (out / "trunk.safetensors").exists():
            start = {"start": inputs["trunk"]} if "trunk" in inputs else {}
            super(Finetune, stage).run(out, data=inputs["data"], **start)
        stage._measure(out, index)

    def _for(self, index: Index) -> Self:
        """This stage with the task that the target has."""
        return self.model_copy(update={"task": MultiLabel()}) if index.has_several_labels else self

    def _targets(self, index: Index, artifacts: dict[str, Path]) -> Targets:
        """The share of the training labels that is used; validation keeps its own."""
        targets = super()._targets(index, artifacts)
        if self.label_share == 1:
            return targets
        train = index.rows("train")
        train = train[targets.known[train]]
        values = targets.values.copy()
        classes = values[train] if values.ndim == 1 else np.zeros(len(train), np.int64)
        values[train[~_drawn(classes, self.label_share, self.seed)]] = -1
        return Targets(values, targets.names, targets.weights)

    def _measure(self, out: Path, index: Index) -> None:
        """Predict the test samples that an earlier attempt left, and score all of them."""
        from cf_lightning.callbacks.row_writer import RowWriter
        from cf_lightning.trainer import build_trainer
        from cf_lightning.transfer.ranking import ClassScores, Ranking

        _, test = labelled_splits(index, np.empty(0, np.int64))
        classifier = self._trained(out, index)
        if test.labels.ndim == 1:
            predictor, file = Ranking(classifier), out / "ranks.npy"
            writer = RowWriter(file, (len(test), 1), np.int64)
        else:
            predictor, file = ClassScores(classifier), out / "scores.npy"
            writer = RowWriter(file, test.labels.shape, np.float32)
        trainer = build_trainer(self.runtime, out, self.precision, [writer])
        samples = self._tested(index, test, writer.pending())
        trainer.predict(predictor, samples, return_predictions=False)
        trainer.strategy.barrier()  # every rank has written its rows
        if trainer.is_global_zero:
            writer.finish()
            known = self._targets(index, {}).known[index.rows("train")]
            counts = {
                "n_train": int(known.sum()),
                "skipped": len(writer.skipped()),
                "views": samples.source.view.views,
            }
            kept = np.delete(np.arange(len(test)), writer.skipped())
            measured = Split(test.rows[kept], test.labels[kept])
            details = self.model_dump(include=SETTINGS) | counts
            scores = _scores(open_rows(file)[kept], measured, len(index.classes), details)
            write_scores(out, {self.LAYER: scores}, self.protocol)
        trainer.strategy.barrier()

    def _tested(self, index: Index, test: Split, pending: np.ndarray) -> "SampleDataModule":
        """The test samples in all their views."""
        from cf_lightning.data.module import SampleDataModule

        source = self._source()
        return SampleDataModule(
            source,
            index=index.take(test.rows),
            targets=test.labels if test.labels.ndim == 1 else np.full(len(test), -1),
            batch_size=max(1, self.batch_size // (self.accumulate * source.view.views)),
            workers=self.runtime.num_workers(),
            patience=self.runtime.loader_timeout,
            pending=pending,
        )

    def _trained(self, out: Path, index: Index) -> "PseudoLabelClassifier":
        """The network that ``Train`` has written."""
        from safetensors.torch import load_file

        module = self._module(len(index.classes), start=out)
        module.head.load_state_dict(load_file(out / "head.safetensors"))
        return module


def _drawn(classes: np.ndarray, share: float, seed: int) -> np.ndarray:
    """(n,) bool: this share of each class of (n,) int64, rounded, and at least one."""
    order, places = shuffled_by_class(classes, seed)
    counts = np.unique(classes, return_counts=True)[1]
    drawn = np.zeros(len(classes), bool)
    drawn[order] = places < np.repeat(np.maximum(np.rint(share * counts), 1), counts)
    return drawn


def _scores(predicted: Any, test: Split, num_classes: int, details: dict[str, Any]) -> list[Score]:
    """Accuracies of (n, 1) ranks, or the mAP of (n, C) scores."""
    if test.labels.ndim == 1:
        return accuracies(predicted[:, 0], num_classes, details)
    return [mean_average_precision(predicted, test.labels, details)]
