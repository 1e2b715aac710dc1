from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from cf_lightning.callbacks.training_checkpoint import TrainingCheckpoint
from cf_lightning.config import build
from cf_lightning.data.views import View
from cf_lightning.errors import ConfigError
from cf_lightning.stages.permutations import Permutations
from cf_lightning.stages.train import Train
from cf_lightning.tasks.draws import Draws
from cf_lightning.tasks.jigsaw import Jigsaw

NONE = torch.zeros(0, dtype=torch.int64)
INDEX: Any = None  # a jigsaw looks at images alone


@pytest.fixture
def permutations(tmp_path: Path) -> Path:
    folder = tmp_path / "permutations"
    folder.mkdir()
    Permutations(grid=3, count=40).run(folder)
    return folder


def prepared(folder: Path, **settings: Any) -> Jigsaw:
    task = Jigsaw(**settings)
    task.prepare(permutations=folder)
    return task


def coordinates(number: int, side: int) -> Tensor:
    """(number, 3, side, side) uint8 images whose red is the row and whose green is the column of a pixel."""
    images = torch.zeros(number, 3, side, side, dtype=torch.uint8)
    images[:, 0] = torch.arange(side)[:, None]
    images[:, 1] = torch.arange(side)
    return images


@pytest.mark.parametrize(("side", "cell", "patch"), [(255, 85, 64), (64, 21, 16), (15, 5, 4)])
def test_the_order_that_the_target_names_is_the_one_in_which_patches_lie(
    side: int, cell: int, patch: int, permutations: Path
) -> None:
    task, orders = prepared(permutations, gray=0.0), np.load(permutations / "permutations.npy")
    patches, number = task.batch(coordinates(50, side), NONE, Draws(torch.arange(50), 0, 0))
    assert patches.shape == (50, 9, 3, patch, patch)
    assert patches.dtype == torch.uint8
    row, column = patches[:, :, 0].long(), patches[:, :, 1].long()
    top, left = row[..., :1, :1], column[..., :1, :1]
    assert torch.equal(row, (top + torch.arange(patch)[:, None]).expand_as(row)), "whole rows of the image"
    assert torch.equal(column, (left + torch.arange(patch)).expand_as(column))
    cells = row // cell * 3 + column // cell
    shown = torch.from_numpy(orders.astype(np.int64))[number][:, :, None, None]
    assert torch.equal(cells, shown.expand_as(cells)), "no patch leaves its cell"
    assert len(set(number.tolist())) > 20


def test_patches_lie_anywhere_in_their_cells_each_on_its_own(permutations: Path) -> None:
    task = prepared(permutations, gray=0.0)
    patches, _ = task.batch(coordinates(400, 64), NONE, Draws(torch.arange(400), 0, 0))
    down, right = (patches[:, :, channel, 0, 0].long() % 21 for channel in (0, 1))
    for offsets in (down, right):
        assert torch.bincount(offsets.flatten()).tolist() == pytest.approx([600] * 6, rel=0.2)
    together = torch.corrcoef(torch.cat([down, right], dim=1).T.double()) - torch.eye(18)
    assert together.abs().max() < 0.25


def test_colours_go_of_whole_images_as_often_as_it_says(permutations: Path) -> None:
    images = torch.randint(256, (2000, 3, 15, 15), dtype=torch.uint8)
    patches, _ = prepared(permutations, gray=0.66).batch(images, NONE, Draws(torch.arange(2000), 0, 0))
    is_gray = (patches == patches[:, :, :1]).flatten(2).all(2)
    assert torch.equal(is_gray.all(1), is_gray.any(1))
    assert float(is_gray[:, 0].float().mean()) == pytest.approx(0.66, abs=0.04)


def test_two_halves_of_a_batch_give_what_the_whole_gives_and_another_epoch_does_not(
    permutations: Path,
) -> None:
    task, rows = prepared(permutations), torch.randperm(30)
    images = torch.randint(256, (30, 3, 32, 32), dtype=torch.uint8)
    whole = task.batch(images, NONE, Draws(rows, 3, 1))
    halves = [task.batch(images[half], NONE, Draws(rows[half], 3, 1)) for half in (slice(11), slice(11, 30))]
    for of_whole, of_halves in zip(whole, zip(*halves, strict=True), strict=True):
        assert torch.equal(of_whole, torch.cat(of_halves))
    later = task.batch(images, NONE, Draws(rows, 3, 2))
    assert (later[1] == whole[1]).float().mean() < 0.3
    assert not torch.equal(later[0], whole[0])


def test_the_head_treats_patches_alike_and_then_puts_them_side_by_side(permutations: Path) -> None:
    torch.manual_seed(0)
    head = Jigsaw(hidden=6).build_head(feature_dim=5, widths=[40])
    features = torch.randn(4, 9, 5)
    assert head(features).shape == (4, 40)
    head.eval()
    linear, norm = (layer for layer in head.embed.children() if list(layer.parameters()))
    each = [torch.relu(norm(linear(features[:, place]))) for place in range(9)]
    torch.testing.assert_close(head(features), torch.cat(each, dim=1) @ head.weight.T + head.bias)


def test_what_cannot_be_a_jigsaw_is_refused(permutations: Path) -> None:
    Jigsaw().check(INDEX, View(resize=15, crop=15))
    with pytest.raises(
        ConfigError, match=r"view.crop=14: .*3 x 3 .* 3 px .*pretrain.view.crop to 15 or more"
    ):
        Jigsaw().check(INDEX, View(resize=14, crop=14))
    with pytest.raises(ConfigError, match=r"task.grid=2 has 4 pieces, the permutations have 9"):
        prepared(permutations, grid=2)


@pytest.fixture
def stage(compose: Callable[..., dict[str, Any]], image_folder: Callable[..., Path], tmp_path: Path) -> Train:
    cfg = compose(
        "+experiment=demo",
        "data=folder",
        f"data.root={image_folder(per_class=16)}",
        "pretrain=jigsaw",
        "pretrain.task.hidden=8",
        "pretrain.epochs=2",
        "pretrain.batch_size=8",
        "model.width=2",
        "runtime.accelerator=cpu",
        "runtime.progress=false",
        "runtime.workers=0",
    )
    stage = build(cfg["pretrain"], "pretrain")
    assert isinstance(stage, Train)
    (tmp_path / "index").mkdir()
    index = stage.data.index()
    index.write(tmp_path / "index")
    stage.check(data=index)
    return stage


def test_a_resumed_training_equals_an_undisturbed_one(
    stage: Train, permutations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"data": tmp_path / "index", "permutations": permutations}

    def stop(self: Any, trainer: Any, *args: Any) -> None:
        if trainer.current_epoch == 1:
            raise InterruptedError

    for name in ("whole", "disturbed"):
        (tmp_path / name).mkdir()
    stage.run(tmp_path / "whole", **inputs)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingCheckpoint, "on_train_batch_end", stop)
        with pytest.raises(InterruptedError):
            stage.run(tmp_path / "disturbed", **inputs)
    stage.run(tmp_path / "disturbed", **inputs)
    for file in ("trunk.safetensors", "head.safetensors"):
        whole, resumed = (load_file(tmp_path / name / file) for name in ("whole", "disturbed"))
        assert all(torch.equal(whole[tensor], resumed[tensor]) for tensor in whole)
