"""The stage that fine-tunes a contestant on a target and measures what comes of it."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError
from cf_lightning.rows import open_rows
from cf_lightning.stages.train import Train
from cf_lightning.stages.transfer import write_scores
from cf_lightning.tasks.base import Task
from cf_lightning.tasks.supervised import Supervised
from cf_lightning.transfer.base import Split, accuracies, single_label_splits

if TYPE_CHECKING:
    from cf_lightning.data.module import SampleDataModule
    from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier

SETTINGS = {"epochs", "batch_size", "optimization", "augmentation", "mix", "ema", "seed", "precision"}


class Finetune(Train):
    """Train the whole network on the target's labels, then measure top-1 and top-5 on its test split.

    It begins with the weights of the input ``trunk``; without one it is a training from scratch. The network
    after the last epoch is measured, so nothing is chosen by the test split. Each test sample is predicted
    once, on one device; of one that is seen in several views (the clips of a video), the probabilities are
    the mean over them.

    Writes ``metrics.json`` and ``facts.json`` as ``Transfer`` does, and what ``Train`` writes.
    """

    task: Task = Supervised()

    def check(self, **indexes: Index) -> None:
        """As a training, and the target has a test split that can be measured."""
        super().check(**indexes)
        train, _ = single_label_splits(indexes["data"], np.empty(0, np.int64))
        if len(train) < self.batch_size:
            raise ConfigError(
                f"batch_size={self.batch_size} is more than the {len(train)} labelled training samples of "
                f"root={indexes['data'].origin}; at most {len(train)}"
            )

    def run(self, out: Path, **inputs: Path) -> None:
        """Train and measure, continuing where an earlier attempt was stopped."""
        from cf_lightning.callbacks.epoch_checkpoint import EpochCheckpoint
        from cf_lightning.callbacks.row_writer import RowWriter
        from cf_lightning.trainer import build_trainer
        from cf_lightning.transfer.ranking import Ranking

        # the checkpoint goes last, when the weights are whole
        if EpochCheckpoint(out).found() or not (out / "trunk.safetensors").exists():
            start = {"start": inputs["trunk"]} if "trunk" in inputs else {}
            super().run(out, data=inputs["data"], **start)
        index = Index.read(inputs["data"])
        train, test = single_label_splits(index, np.empty(0, np.int64))
        writer = RowWriter(out / "ranks.npy", (len(test), 1), np.int64)
        trainer = build_trainer(self.runtime, out, self.precision, [writer])
        samples = self._tested(index, test, writer.pending())
        trainer.predict(Ranking(self._trained(out, index)), samples, return_predictions=False)
        trainer.strategy.barrier()  # every rank has written its rows
        if trainer.is_global_zero:
            writer.finish()
            ranks = np.delete(open_rows(out / "ranks.npy")[:, 0], writer.skipped())
            views = samples.source.view.views
            details = {"n_train": len(train), "skipped": len(writer.skipped()), "views": views}
            settings = self.model_dump(include=SETTINGS)
            write_scores(out, accuracies(ranks, len(index.classes), settings | details), "finetune", "all")
        trainer.strategy.barrier()

    def _tested(self, index: Index, test: Split, pending: np.ndarray) -> "SampleDataModule":
        """The test samples in all their views."""
        from cf_lightning.data.module import SampleDataModule

        source = self._source()
        return SampleDataModule(
            source,
            index=Index(index.table.take(pa.array(test.rows)), index.origin),
            targets=test.labels,
            batch_size=max(1, self.batch_size // source.view.views),
            workers=self.runtime.num_workers(),
            pending=pending,
        )

    def _trained(self, out: Path, index: Index) -> "PseudoLabelClassifier":
        """The network that ``Train`` has written."""
        from safetensors.torch import load_file

        module = self._module(len(index.classes), start=out)
        module.head.load_state_dict(load_file(out / "head.safetensors"))
        return module
