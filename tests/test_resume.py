"""A training that ends in the middle and goes on equals one that was never disturbed, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file

from cf_lightning.callbacks.epoch_checkpoint import EpochCheckpoint
from cf_lightning.config import build
from cf_lightning.stages.train import Train


class Stop(Exception):
    """Stands for whatever ends a process."""


def train(stage: Train, out: Path, data: Path) -> dict[str, torch.Tensor]:
    out.mkdir(parents=True, exist_ok=True)
    stage.run(out, data=data)
    return load_file(out / "trunk.safetensors")


@pytest.fixture
def stage(compose: Callable[..., dict[str, Any]], image_folder: Callable[..., Path], tmp_path: Path) -> Train:
    cfg = compose(
        "+experiment=demo",
        "data=folder",
        f"data.root={image_folder(per_class=16)}",
        "pretrain=supervised",
        "pretrain.epochs=3",
        "pretrain.batch_size=8",
        "model.width=4",
        "runtime.accelerator=cpu",
    )
    stage = build(cfg["pretrain"], "pretrain")
    (tmp_path / "index").mkdir()
    stage.data.index().write(tmp_path / "index")
    assert isinstance(stage, Train)
    return stage


@pytest.mark.parametrize("moment", ["in the second epoch", "while the checkpoint is written"])
def test_resumed_equals_undisturbed(
    moment: str, stage: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(stage, tmp_path / "a" / "key.partial", tmp_path / "index")
    history = (tmp_path / "a" / "key.partial" / "history.csv").read_text()

    def stop_in_epoch(self: Callback, trainer: Any, *args: Any) -> None:
        if trainer.current_epoch == 1 and trainer.global_step == 8:
            raise Stop

    def stop_in_writing(source: Any, target: Any) -> None:
        if Path(target).name == EpochCheckpoint.FILE and Path(target).exists():
            raise Stop
        Path(source).rename(target)

    with monkeypatch.context() as patch:
        if moment == "in the second epoch":
            patch.setattr(EpochCheckpoint, "on_train_batch_end", stop_in_epoch)
        else:
            patch.setattr("cf_lightning.callbacks.epoch_checkpoint.os.replace", stop_in_writing)
        with pytest.raises(Stop):
            train(stage, tmp_path / "b" / "key.partial", tmp_path / "index")
    assert (tmp_path / "b" / "key.partial" / EpochCheckpoint.FILE).exists()
    torch.manual_seed(99)  # what the process drew in between is of no account
    resumed = train(stage, tmp_path / "b" / "key.partial", tmp_path / "index")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (tmp_path / "b" / "key.partial" / "history.csv").read_text() == history
    left = {file.name for file in (tmp_path / "b" / "key.partial").iterdir()}
    assert left == {"trunk.safetensors", "head.safetensors", "classes.json", "history.csv", "facts.json"}
