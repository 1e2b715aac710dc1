"""A training that ends in the middle and goes on equals one that was never disturbed, bit for bit."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from safetensors.torch import load_file
from torch import nn

from cf_lightning.callbacks.history import History
from cf_lightning.callbacks.training_checkpoint import TrainingCheckpoint
from cf_lightning.config import build
from cf_lightning.data.images import ImageDataModule
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.models.trunk import Trunk
from cf_lightning.stages.train import Train
from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier

Make = Callable[..., tuple[Train, Path]]


class Stop(Exception):
    """Stands for whatever ends a process."""


def train(stage: Train, out: Path, data: Path) -> dict[str, torch.Tensor]:
    out.mkdir(parents=True, exist_ok=True)
    stage.run(out, data=data)
    return load_file(out / "trunk.safetensors")


@pytest.fixture
def make(compose: Callable[..., dict[str, Any]], image_folder: Callable[..., Path], tmp_path: Path) -> Make:
    """A stage that trains for three epochs of 8 images a batch, and the folder of its index."""

    def stage(*overrides: str) -> tuple[Train, Path]:
        cfg = compose(
            "+experiment=demo",
            "data=folder",
            f"data.root={image_folder(per_class=16)}",
            "pretrain=supervised",
            "pretrain.epochs=3",
            "pretrain.batch_size=8",
            "model.width=4",
            "runtime.accelerator=cpu",
            *overrides,
        )
        stage = build(cfg["pretrain"], "pretrain")
        (tmp_path / "index").mkdir()
        stage.data.index().write(tmp_path / "index")
        assert isinstance(stage, Train)
        return stage, tmp_path / "index"

    return stage


@pytest.fixture
def dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that draw in every step."""
    build = TinyTrunk.build

    def with_dropout(self: TinyTrunk) -> Trunk:
        trunk = build(self)
        trunk.network.append(nn.Dropout())
        return trunk

    monkeypatch.setattr(TinyTrunk, "build", with_dropout)


@pytest.mark.parametrize("moment", ["in the second epoch", "while the checkpoint is written"])
def test_resumed_equals_undisturbed(
    moment: str, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, _ = make()
    whole = train(stage, tmp_path / "a" / "key.partial", tmp_path / "index")
    history = (tmp_path / "a" / "key.partial" / "history.csv").read_text()

    def stop_in_epoch(self: Callback, trainer: Any, *args: Any) -> None:
        if trainer.current_epoch == 1 and trainer.global_step == 8:
            raise Stop

    def stop_in_writing(source: Any, target: Any) -> None:
        if Path(target).name == TrainingCheckpoint.FILE and Path(target).exists():
            raise Stop
        Path(source).rename(target)

    with monkeypatch.context() as patch:
        if moment == "in the second epoch":
            patch.setattr(TrainingCheckpoint, "on_train_batch_end", stop_in_epoch)
        else:
            patch.setattr("cf_lightning.callbacks.training_checkpoint.os.replace", stop_in_writing)
        with pytest.raises(Stop):
            train(stage, tmp_path / "b" / "key.partial", tmp_path / "index")
    assert (tmp_path / "b" / "key.partial" / TrainingCheckpoint.FILE).exists()
    torch.manual_seed(99)  # what the process drew in between is of no account
    resumed = train(stage, tmp_path / "b" / "key.partial", tmp_path / "index")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (tmp_path / "b" / "key.partial" / "history.csv").read_text() == history
    left = {file.name for file in (tmp_path / "b" / "key.partial").iterdir()}
    assert left == {"trunk.safetensors", "head.safetensors", "classes.json", "history.csv", "facts.json"}


GROWING = "pretrain.progressive={start: 0.5, until: 0.7, step: 8}"


@pytest.mark.parametrize(
    "options",
    [[], ["pretrain.ema=0.9"], ["pretrain.mix.mixup=0.4"], ["pretrain.accumulate=2", GROWING]],
    ids=str,
)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_asked_to_end_within_an_epoch_it_goes_on_from_the_next_batch(
    number: signal.Signals, workers: int, options: list[str], make: Make, dropout: None, tmp_path: Path
) -> None:
    stage, data = make(*options, f"runtime.workers={workers}")
    whole = train(stage, tmp_path / "a" / "key.partial", data)
    seen: list[int] = []

    def ask(self: Callback, trainer: Any, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        seen.extend(batch[2].tolist())
        if trainer.global_step == 7:  # of 5 in an epoch
            os.kill(os.getpid(), number)

    out = tmp_path / "b" / "key.partial"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(History, "on_train_batch_end", ask)
        with pytest.raises(SystemExit) as end:
            train(stage, out, data)
        assert end.value.code == 128 + number
        assert len(seen) == 7 * 8
        torch.manual_seed(99)
        patch.setattr(History, "on_train_batch_end", lambda *arguments: seen.extend(arguments[4][2].tolist()))
        resumed = train(stage, out, data)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (out / "history.csv").read_text() == (tmp_path / "a" / "key.partial" / "history.csv").read_text()
    epochs = np.array(seen).reshape(3, 5 * 8)
    assert [len(np.unique(epoch)) for epoch in epochs] == [5 * 8] * 3, "each image once an epoch"


def test_a_long_epoch_has_checkpoints_and_a_kill_after_one_loses_only_what_came_later(
    make: Make, tmp_path: Path
) -> None:
    stage, data = make("runtime.checkpoint_minutes=0.000001")
    whole = train(stage, tmp_path / "a" / "key.partial", data)
    steps: list[int] = []

    def stop(self: Callback, trainer: Any, *args: Any) -> None:
        steps.append(trainer.global_step)
        if len(steps) == 9:
            raise Stop

    out = tmp_path / "b" / "key.partial"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(History, "on_train_batch_end", stop)
        with pytest.raises(Stop):
            train(stage, out, data)
        resumed = train(stage, out, data)
    assert steps == [*range(1, 10), *range(9, 16)], "the ninth step alone was taken twice"
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_loader_of_a_training_that_is_over_gives_whole_epochs(make: Make, tmp_path: Path) -> None:
    stage, _ = make()
    data = ImageDataModule(stage.data, batch_size=8)
    trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False)
    trainer.fit(PseudoLabelClassifier(stage.model.build(), 3, batch_size=8), data)
    assert len(list(trainer.train_dataloader)) == len(list(data.train_dataloader())) == 5
