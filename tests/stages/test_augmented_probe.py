"""The linear probe on augmented images: the trunk stays as it is, and what is written is what measured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cf_lightning.callbacks.training_checkpoint import TrainingCheckpoint
from cf_lightning.console import Console
from cf_lightning.data.folder import FolderImages
from cf_lightning.data.views import Augmentation
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.optimization import SGD
from cf_lightning.plan import Plan
from cf_lightning.runtime import Runtime
from cf_lightning.stages.augmented_probe import AugmentedProbe
from cf_lightning.store import Store

ImageFolder = Callable[..., Path]
MODEL = TinyTrunk(width=2)


@pytest.fixture
def stage(image_folder: ImageFolder) -> AugmentedProbe:
    view = {"resize": 20, "crop": 16}
    source = FolderImages(root=str(image_folder(12)), view=view, holdout=0.3, split_seed=0)  # type: ignore[arg-type]
    return AugmentedProbe(
        data=source,
        model=MODEL,
        optimization=SGD(lr=0.5),
        augmentation=Augmentation(),
        epochs=3,
        batch_size=4,
        precision="32-true",
        runtime=Runtime(accelerator="cpu"),
    )


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A trunk whose running statistics are not those of its beginning."""
    folder = tmp_path / "given"
    folder.mkdir()
    torch.manual_seed(5)
    trunk = MODEL.build().train()
    trunk(torch.randint(256, (8, 3, 16, 16), dtype=torch.uint8))
    trunk.save(folder)
    return folder


def run(stage: AugmentedProbe, out: Path, given: Path) -> Path:
    out.mkdir(exist_ok=True)
    index = stage.data.index()
    index.write(out)
    stage.check(data=index)
    stage.run(out, data=out, trunk=given)
    return out


def test_the_trunk_and_its_statistics_are_never_touched(
    stage: AugmentedProbe, given: Path, tmp_path: Path
) -> None:
    out = run(stage, tmp_path / "out", given)
    before, after = load_file(given / "trunk.safetensors"), load_file(out / "trunk.safetensors")
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    head = load_file(out / "head.safetensors")
    assert head["embed.num_batches_tracked"] == 3 * (27 // 4)
    rows = json.loads((out / "metrics.json").read_text())
    assert {(row["protocol"], row["layer"]) for row in rows} == {("linear_augmented", "pooled")}


def test_the_ranks_are_those_of_the_written_weights(
    stage: AugmentedProbe, given: Path, tmp_path: Path
) -> None:
    stage = stage.model_copy(update={"epochs": 12})  # batch norm's running statistics arrive slowly
    out = run(stage, tmp_path / "out", given)
    index, head = stage.data.index(), load_file(out / "head.safetensors")
    trunk, view = MODEL.build().load(given).eval(), stage.data.view.build()
    rows = index.rows("val")
    images = torch.stack([view(stage.data.sample(index, row)) for row in rows.tolist()])
    with torch.inference_mode():
        norm = torch.nn.functional.batch_norm(
            trunk(images),
            *(head[f"embed.{name}"] for name in ("running_mean", "running_var", "weight", "bias")),
        )
        logits = norm @ head["weight"].T + head["bias"]
    truth = torch.tensor([index.classes.index(index.key(row).split("/")[0]) for row in rows.tolist()])
    ranks = (logits > logits.gather(1, truth[:, None])).sum(1)
    assert np.load(out / "ranks.npy")[:, 0].tolist() == ranks.tolist()
    assert (ranks == 0).float().mean() > 0.5, "colours are easy, so it has learned"


class Stop(Exception):
    """Stands for whatever ends a process."""


def test_resumed_equals_undisturbed(
    stage: AugmentedProbe, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(stage, tmp_path / "whole", given)
    save = TrainingCheckpoint.on_train_epoch_end

    def stopping(self: TrainingCheckpoint, trainer: Any, module: Any) -> None:
        save(self, trainer, module)
        if trainer.current_epoch == 1:
            raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(TrainingCheckpoint, "on_train_epoch_end", stopping)
        with pytest.raises(Stop):
            run(stage, tmp_path / "out", given)
    out = run(stage, tmp_path / "out", given)
    for name in ("trunk.safetensors", "head.safetensors", "metrics.json", "ranks.npy"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow
def test_two_processes_learn_what_one_does(
    image_folder: ImageFolder, compose: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    root, heads = image_folder(12), []
    for devices in (1, 2):
        cfg = compose(
            *("+experiment=demo", "model=tiny", "data=folder", f"data.root={root}", "data.holdout=0.3"),
            *("transfer=[linear_augmented]", "transfer.linear_augmented.epochs=2", "runtime.accelerator=cpu"),
            *("transfer.linear_augmented.batch_size=4", "transfer.linear_augmented.precision=32-true"),
            f"runtime.devices={devices}",
        )
        plan = Plan(Store(str(tmp_path / f"store{devices}")))
        node = {**cfg["transfer"]["linear_augmented"], "data": cfg["data"], "model": cfg["model"]}
        step = plan.add("transfer", node, "probed", data=plan.index(cfg["data"], "data"))
        plan.check()
        plan.run(Console())
        heads.append(load_file(plan.folder(step) / "head.safetensors"))
    for name, tensor in heads[0].items():
        torch.testing.assert_close(heads[1][name], tensor, rtol=1e-3, atol=1e-5)
