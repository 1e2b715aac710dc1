from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.optimization import SGD
from cf_lightning.tasks.base import Task
from cf_lightning.tasks.draws import Draws, _mixed
from cf_lightning.tasks.jigsaw import Jigsaw
from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier
from cf_lightning.tasks.rotation import Rotation


def test_the_mixer_is_splitmix64() -> None:
    published = {0: 0xE220A8397B1DCDAF, 1234567: 6457827717110365317}  # the first number of each seed
    mixed = _mixed(torch.tensor(list(published)))
    assert [number % 2**64 for number in mixed.tolist()] == list(published.values())


def test_what_is_drawn_follows_seed_epoch_row_and_name_alone() -> None:
    rows = torch.tensor([7, 0, ~3, 2**40])
    whole = Draws(rows, seed=1, epoch=2).uniform("turn", 5)
    order = [3, 1, 0, 2]
    torch.rand(3)
    assert torch.equal(Draws(rows[order], 1, 2).uniform("turn", 5), whole[order])
    assert torch.equal(Draws(rows[2:], 1, 2).uniform("turn", 5), whole[2:])
    others = [
        Draws(rows, 0, 2).uniform("turn", 5),
        Draws(rows, 2, 1).uniform("turn", 5),
        Draws(rows, 1, 3).uniform("turn", 5),
        Draws(rows + 1, 1, 2).uniform("turn", 5),
        Draws(rows, 1, 2).uniform("order", 5),
    ]
    assert all((other != whole).all() for other in others)


def test_numbers_are_even_and_know_nothing_of_each_other() -> None:
    rows = torch.arange(20_000)
    now, later = (Draws(rows, 0, epoch).uniform("turn", 4) for epoch in (0, 1))
    assert 0 <= float(now.min()) < float(now.max()) < 1
    assert np.histogram(now, bins=10, range=(0, 1))[0] == pytest.approx([8000] * 10, rel=0.05)
    columns = torch.cat([now, later, now.roll(1, 0)], dim=1)
    correlation = torch.corrcoef(columns.T) - torch.eye(12)
    assert correlation.abs().max() < 0.04  # five standard deviations
    numbers = Draws(rows, 0, 0).integers("order", 7)
    assert torch.bincount(numbers[:, 0]).tolist() == pytest.approx([20_000 / 7] * 7, rel=0.07)


@pytest.fixture
def jigsaw(tmp_path: Path) -> Jigsaw:
    np.save(tmp_path / "permutations.npy", np.array([[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]], np.uint8))
    task = Jigsaw(grid=2, hidden=4)
    task.prepare(permutations=tmp_path)
    return task


@pytest.mark.parametrize("name", ["rotation", "jigsaw"])
def test_training_sees_something_else_in_each_epoch_and_validation_does_not(
    name: str, jigsaw: Jigsaw
) -> None:
    task: Task = jigsaw if name == "jigsaw" else Rotation()
    torch.manual_seed(0)
    module = PseudoLabelClassifier(TinyTrunk(width=1).build(), 4, task, SGD(lr=1e-6), 8)
    images = torch.randint(256, (8, 3, 16, 16), dtype=torch.uint8)
    loader: Any = DataLoader([(image, torch.tensor(0), row) for row, image in enumerate(images)], 8)  # type: ignore[arg-type]
    seen: dict[bool, list[Tensor]] = {True: [], False: []}
    module.trunk.register_forward_pre_hook(lambda trunk, inputs: seen[trunk.training].append(inputs[0]))
    quiet: Any = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=2, accelerator="cpu", enable_checkpointing=False, **quiet)
    trainer.fit(module, loader, loader)
    of_validation, of_training = seen[False], seen[True]
    assert len(of_training) == 2
    assert not torch.equal(*of_training)
    assert len(of_validation) >= 2
    assert all(torch.equal(inputs, of_validation[0]) for inputs in of_validation)
