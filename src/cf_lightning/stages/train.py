"""The training stage: *pretrain* and *clusterfit* are this one with different labels."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from cf_lightning.clustering.recluster import Recluster
from cf_lightning.data.index import Index
from cf_lightning.data.mix import Mix
from cf_lightning.data.progressive import Progressive
from cf_lightning.data.source import Source
from cf_lightning.data.views import Augmentation, View
from cf_lightning.errors import ConfigError
from cf_lightning.models.base import TrunkRecipe
from cf_lightning.optimization import Optimization
from cf_lightning.precision import Precision
from cf_lightning.stages.base import Stage
from cf_lightning.stages.training_checks import check_batch, check_combinations, check_progressive
from cf_lightning.tasks.base import Targets, Task
from cf_lightning.tasks.noise import with_noise

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer

    from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier


class Train(Stage):
    """Train a trunk and publish it with its head, its curve and its classes.

    From scratch, unless it is given an artifact ``start``, whose trunk it begins with.

    Writes ``trunk.safetensors``, ``head.safetensors`` (weight (K, D), bias (K,)), ``classes.json`` (the
    names of the head's rows; of several heads, which lie one after the other, by the head's name),
    ``history.csv`` and ``facts.json``.

    Attributes:
        data: the images or videos.
        model: the architecture.
        task: what is learned of them.
        needs: stages whose artifacts the task reads, by the name that it knows them by.
        view: what this training sees otherwise than the data's view says; null is nothing.
        noise: share of the training labels that another class replaces: the paper's control experiment.
        noise_seed: of the labels that are replaced.
        optimization: optimiser and schedule.
        augmentation: random view of the training images.
        progressive: crops that grow with the epochs; null is the view's in all of them.
        mix: of the images of a batch.
        ema: decay of a running mean of the weights, which is validated and published; 0 has none.
        recluster: targets that the network makes itself; ``None`` has none.
        epochs: passes over as many images as have a target.
        batch_size: of one optimiser step, on all devices together.
        accumulate: passes that a step is made of, one after the other. Statistics of batch normalisation and
            partners of ``mix`` are those of a pass, and so are the sampled classes of a head.
        precision: ``auto`` is bf16 where it is faster.
        compile: the trunk's network, by ``torch.compile``.
        seed: of initialisation, shuffling and augmentation.
    """

    data: Source
    model: TrunkRecipe
    task: Task
    needs: dict[str, Stage] = {}
    view: View | None = None
    noise: float = Field(default=0.0, ge=0, le=1)
    noise_seed: int = Field(default=0, ge=0)
    optimization: Optimization
    augmentation: Augmentation
    progressive: Progressive | None = None
    mix: Mix = Mix()
    ema: float = Field(default=0.0, ge=0, lt=1)
    recluster: Recluster | None = None
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    accumulate: int = Field(default=1, ge=1)
    precision: Precision = "auto"
    compile: bool = False
    seed: int = Field(default=0, ge=0)

    def check(self, **indexes: Index) -> None:
        """The task finds its labels, and there is at least one whole batch for all devices."""
        data, view = indexes["data"], self._source().view
        self.model.check(self.data)
        self.task.check(data, view)
        check_combinations(self)
        check_batch(self, data)
        check_progressive(self, data, view)

    def _source(self) -> Source:
        """The data as this training sees it."""
        if self.view is None:
            return self.data
        changed = self.data.view.model_dump() | self.view.model_dump(exclude_unset=True)
        try:
            view = type(self.data.view)(**changed)
            if self.data.cache:
                self.data.cache.check_view(view)
        except ValidationError as error:
            raise ConfigError(f"view={changed}: {error.errors()[0]['msg']}") from None
        except ValueError as error:
            raise ConfigError(f"view={changed}: {error}") from None
        return self.data.model_copy(update={"view": view})

    def disk_bytes(self, **indexes: Index) -> int | None:
        """Weights of the trunk in float32, and three times as much for the checkpoint meanwhile."""
        return 4 * self.model.weight_bytes()

    def operations(self, **indexes: Index) -> float:
        """Forward and twice as much backward for every training sample of every epoch, without the head."""
        view = self._source().view.single()
        passes = [self.model.operations(view.scaled(side).shape) for side in self.sides(view)]
        return 3.0 * sum(passes) * len(indexes["data"].rows("train"))

    def sides(self, view: View) -> list[int]:
        """Of the training crop in each epoch, in pixels."""
        grow = self.progressive
        return grow.sides(view.crop, self.epochs) if grow else [view.crop] * self.epochs

    def run(self, out: Path, **inputs: Path) -> None:
        """Train, continuing from the last checkpoint of an earlier attempt."""
        from cf_lightning.callbacks.finite import FiniteLoss
        from cf_lightning.callbacks.history import History
        from cf_lightning.callbacks.training_checkpoint import TrainingCheckpoint
        from cf_lightning.data.module import SampleDataModule
        from cf_lightning.sharding import assemble
        from cf_lightning.trainer import build_trainer

        index = Index.read(inputs["data"])
        artifacts = {name: folder for name, folder in inputs.items() if name not in ("data", "start")}
        targets = self._targets(index, artifacts)
        self.task.prepare(**artifacts)
        module = self._module(targets.num_classes, inputs.get("start"))
        source = self._source()
        samples = SampleDataModule(
            source,
            index=index,
            targets=targets.values,
            weights=targets.weights,
            augmentation=self.augmentation,
            sides=self.sides(source.view),
            batch_size=self.batch_size,
            seed=self.seed,
            workers=self.runtime.num_workers(),
            patience=self.runtime.loader_timeout,
        )
        history, checkpoint = History(out), TrainingCheckpoint(out, self.runtime.checkpoint_minutes)
        callbacks = [FiniteLoss(self.optimization.lr), history, *self._callbacks(index), checkpoint]
        trainer = build_trainer(self.runtime, out, self.precision, callbacks, self.epochs, self.accumulate)
        if self.compile:
            from cf_lightning.models.compiling import compile_network

            compile_network(module.trunk.network)
        self._divide(module, trainer)
        trainer.fit(module, samples, ckpt_path=checkpoint.found(), weights_only=True)
        if trainer.interrupted or trainer.current_epoch < self.epochs:
            raise KeyboardInterrupt
        # Lightning has left it on the CPU, where nccl cannot assemble anything
        module.head.to(trainer.strategy.root_device).assemble()
        assemble(module.trunk.to(trainer.strategy.root_device))
        if trainer.is_global_zero:
            self._write(out, module, targets, index, history.epochs[-1])
            checkpoint.remove()
        trainer.strategy.barrier()

    def _callbacks(self, index: Index) -> "list[Callback]":
        """What takes part in the training beside the curve and the checkpoint."""
        from cf_lightning.callbacks.ema import RunningMean

        callbacks: list[Callback] = [RunningMean(decay=self.ema)] if self.ema else []
        if self.recluster:
            callbacks.append(self.recluster.callback(index.rows("train")))
        return callbacks

    def _divide(self, module: "PseudoLabelClassifier", trainer: "Trainer") -> None:
        """Divide a head of very many classes among the devices."""
        if trainer.world_size == 1 or sum(module.widths) < self.runtime.divide_head or not self.task.DIVIDES:
            return
        if self.ema:
            raise ConfigError(
                f"ema={self.ema} with {sum(module.widths)} classes that {trainer.world_size} devices divide: "
                "the mean would have the classes of one; set ema=0, or runtime.divide_head to more classes"
            )
        module.divide(trainer.global_rank, trainer.world_size)

    def _targets(self, index: Index, artifacts: dict[str, Path]) -> Targets:
        """Of one head, or of as many as there are clusterings ``labels_<head>`` among the artifacts."""
        heads = {
            name.removeprefix("labels_"): self.task.targets(index, labels=folder)
            for name, folder in artifacts.items()
            if name.startswith("labels_")
        }
        targets = Targets.stacked(heads) if heads else self.task.targets(index, **artifacts)
        return (
            with_noise(targets, index.rows("train"), self.noise, self.noise_seed) if self.noise else targets
        )

    def _module(self, num_classes: int | dict[str, int], start: Path | None) -> "PseudoLabelClassifier":
        import torch

        from cf_lightning.models.sync_batchnorm import convert

        torch.manual_seed(self.seed)
        module: Any = self._classifier(num_classes)
        if start is not None:
            module.trunk.load(start)
        if self.runtime.num_processes() > 1:
            module = convert(module, self.runtime.device_kind())
        return module  # type: ignore[no-any-return]

    def _classifier(self, num_classes: int | dict[str, int]) -> "PseudoLabelClassifier":
        """With weights from torch's global generator."""
        from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier

        return PseudoLabelClassifier(
            self.model.build(),
            num_classes,
            self.task,
            self.optimization,
            self.batch_size,
            self.seed,
            self.mix,
        )

    def _write(
        self, out: Path, module: Any, targets: Targets, index: Index, metrics: dict[str, float]
    ) -> None:
        from safetensors.torch import save_file

        module.trunk.save(out)
        save_file(module.head.state_dict(), out / "head.safetensors")
        (out / "classes.json").write_text(json.dumps(targets.names))
        train = index.rows("train")
        logged = ["train/loss", "val/top1", *(f"val/top1_{head}" for head in module.val_top1_of)]
        facts = {
            "classes": sum(module.widths),
            "images": int(targets.known[train].sum()),
            "without_target": int((~targets.known[train]).sum()),
            **{name.replace("/", "_"): round(metrics[name], 4) for name in logged if name in metrics},
        }
        (out / "facts.json").write_text(json.dumps(facts))
