from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.optimization import SGD
from cf_lightning.tasks.draws import Draws
from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier
from cf_lightning.tasks.rotation import Rotation

NONE = torch.zeros(0, dtype=torch.int64)


def test_each_image_is_turned_counter_clockwise_by_as_much_as_its_target_says() -> None:
    images = torch.randint(250, (64, 3, 6, 6), dtype=torch.uint8)
    corners = torch.tensor([250, 251, 252, 253], dtype=torch.uint8)  # clockwise from the top left
    images[:, :, 0, 0], images[:, :, 0, -1], images[:, :, -1, -1], images[:, :, -1, 0] = corners
    before = images.clone()
    turned, turns = Rotation().batch(images, NONE, Draws(torch.arange(64), 0, 0))
    assert set(turns.tolist()) == {0, 1, 2, 3}
    # a quarter counter-clockwise brings the corner at the top right to the top left
    assert turned[:, 0, 0, 0].tolist() == (250 + turns).tolist()
    assert torch.equal(turned.flatten(2).sort(2).values, before.flatten(2).sort(2).values)
    assert torch.equal(images, before)
    assert torch.equal(turned[turns == 0], before[turns == 0])


def test_two_halves_of_a_batch_give_what_the_whole_gives() -> None:
    images, rows = torch.randint(256, (20, 3, 6, 6), dtype=torch.uint8), torch.randperm(20)
    whole = Rotation().batch(images, NONE, Draws(rows, 3, 1))
    halves = [
        Rotation().batch(images[half], NONE, Draws(rows[half], 3, 1)) for half in (slice(8), slice(8, 20))
    ]
    for of_whole, of_halves in zip(whole, zip(*halves, strict=True), strict=True):
        assert torch.equal(of_whole, torch.cat(of_halves))


def test_an_epoch_has_every_angle_as_often_and_the_next_has_others() -> None:
    images, rows = torch.zeros(4000, 3, 1, 1, dtype=torch.uint8), torch.arange(4000)
    first, second = (Rotation().batch(images, NONE, Draws(rows, 0, epoch))[1] for epoch in (0, 1))
    assert torch.bincount(first).tolist() == pytest.approx([1000] * 4, rel=0.15)
    assert float((first == second).float().mean()) == pytest.approx(0.25, abs=0.04)


def test_rotnet_learns_which_way_is_up() -> None:
    torch.manual_seed(0)
    sky = torch.linspace(200, 50, 16)[:, None].expand(16, 16)  # bright above, dark below
    pictures = (sky + 40 * torch.randn(160, 3, 16, 16)).clamp(0, 255).byte()
    samples: list[tuple[Tensor, Tensor, int]] = [
        (one, torch.tensor(0), row) for row, one in enumerate(pictures)
    ]
    module = PseudoLabelClassifier(TinyTrunk(width=4).build(), 4, Rotation(), SGD(lr=0.5), 32)
    quiet: Any = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=6, accelerator="cpu", enable_checkpointing=False, **quiet)
    loaders: list[Any] = [DataLoader(part, 32) for part in (samples[:128], samples[128:])]  # type: ignore[arg-type]
    trainer.fit(module, *loaders)
    assert trainer.callback_metrics["val/top1"] > 0.8
