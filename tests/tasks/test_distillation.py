"""Distillation by hand: the loss, the teacher's labels, and a teacher that stays as it is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from cf_lightning.heads.labels import Labels
from cf_lightning.heads.scores import Scores
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.tasks.distillation import Distillation
from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier
from cf_lightning.tasks.supervised import Supervised
from indexes import index

NAMES = ["bird", "cat", "dog"]


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    module = PseudoLabelClassifier(TinyTrunk(width=2).build(), len(NAMES))
    module.trunk.save(tmp_path)
    save_file(module.head.state_dict(), tmp_path / "head.safetensors")
    (tmp_path / "classes.json").write_text(json.dumps(NAMES))
    return tmp_path


def task(hard_weight: float = 0.0, temperature: float = 4.0) -> Distillation:
    given = {"temperature": temperature, "hard_weight": hard_weight}
    return Distillation(model=TinyTrunk(width=2), labels=Supervised(), **given)


def told(folder: Path, images: torch.Tensor) -> torch.Tensor:
    module = PseudoLabelClassifier(TinyTrunk(width=2).build().load(folder), len(NAMES)).eval()
    module.head.load_state_dict(
        {name: torch.from_numpy(np.array(value)) for name, value in load(folder).items()}
    )
    with torch.no_grad():
        return module(images)  # type: ignore[no-any-return]


def load(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "head.safetensors")


@pytest.mark.parametrize(("hard_weight", "temperature"), [(0.0, 4.0), (0.0, 1.0), (0.3, 2.0), (1.0, 4.0)])
def test_the_loss_as_published(hard_weight: float, temperature: float, teacher: Path) -> None:
    images = torch.randint(256, (5, 3, 8, 8), dtype=torch.uint8)
    logits, targets = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    distillation = task(hard_weight, temperature)
    distillation.prepare(teacher=teacher)
    scores = Scores(logits, Labels.even(targets))
    losses, hits = distillation.loss_of(scores, images), distillation.right(scores, images)
    soft = functional.softmax(told(teacher, images) / temperature, dim=1)
    student = functional.softmax(logits / temperature, dim=1)
    kl = (soft * (soft.log() - student.log())).sum(1)
    hard = functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(losses, hard_weight * hard + (1 - hard_weight) * temperature**2 * kl)
    assert hits.tolist() == (logits.argmax(1) == soft.argmax(1)).tolist()


def test_a_student_that_says_the_same_has_no_loss_and_the_teacher_does_not_learn(teacher: Path) -> None:
    images = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    distillation = task()
    distillation.prepare(teacher=teacher)
    module = PseudoLabelClassifier(TinyTrunk(width=2).build(), len(NAMES), distillation).train()
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    same = Scores(told(teacher, images), Labels.even(torch.zeros(4, dtype=torch.int64)))
    losses = distillation.loss_of(same, images)
    torch.testing.assert_close(losses, torch.zeros(4), atol=1e-5, rtol=0)
    before = told(teacher, images)
    module.training_step((images, torch.zeros(4, dtype=torch.int64), torch.arange(4)), 0).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    after = distillation._teacher
    assert after is not None
    assert not after.training
    torch.testing.assert_close(after(images), before)
    assert "teacher" not in "".join(module.state_dict())


def test_hard_labels_are_numbered_as_the_teacher_numbers_them(teacher: Path) -> None:
    data = index([["dog"], ["cat"], [], ["dog"]])
    assert task(hard_weight=0.5).targets(data, teacher=teacher).values.tolist() == [2, 1, -1, 2]
    soft = task().targets(data, teacher=teacher)
    assert (soft.values.tolist(), soft.names) == ([0, 0, 0, 0], NAMES)
