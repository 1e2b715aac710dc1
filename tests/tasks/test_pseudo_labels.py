from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from cf_lightning.heads.labels import Labels
from cf_lightning.heads.scores import Scores
from cf_lightning.losses.cross_entropy import CrossEntropy
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return CrossEntropy()(Scores(logits, Labels.even(targets)))


def test_single_labels_equal_torch_cross_entropy() -> None:
    logits, targets = torch.randn(5, 7), torch.tensor([3, 0, 6, 2, 2])
    expected = functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(cross_entropy(logits, targets), expected)


def test_tags_share_the_target_evenly() -> None:
    logits = torch.randn(2, 4)
    soft = torch.tensor([[0.5, 0.0, 0.5, 0.0], [0.0, 1.0, 0.0, 0.0]])
    expected = functional.cross_entropy(logits, soft, reduction="none")
    torch.testing.assert_close(cross_entropy(logits, torch.tensor([[0, 2], [1, -1]])), expected)


def test_rows_without_target_or_image_take_no_part() -> None:
    assert cross_entropy(torch.randn(2, 3), torch.tensor([-1, 1]))[0] == 0
    module = PseudoLabelClassifier(TinyTrunk(width=2).build(), 3).train(False)
    images, targets = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8), torch.tensor([0, 1, 2, 0])
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    clean = module.training_step((images[:3], targets[:3], torch.arange(3)), 0)
    spoiled = module.training_step((images, targets, torch.tensor([0, 1, 2, ~3])), 0)
    torch.testing.assert_close(spoiled, clean * 3 / 4)


HEADS = {"k3": 3, "k5": 5}


def two_heads() -> tuple[PseudoLabelClassifier, tuple[Tensor, Tensor, Tensor]]:
    torch.manual_seed(0)
    module = PseudoLabelClassifier(TinyTrunk(width=2).build(), HEADS).train(False)
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    images = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    targets = torch.tensor([[2, 4], [0, 0], [1, -1], [2, 3]])[:, :, None]  # row 2: none in the second head
    return module, (images, targets, torch.tensor([0, ~1, 2, 3]))  # row 1: no image


def test_the_loss_is_the_mean_over_the_heads() -> None:
    module, (images, targets, index) = two_heads()
    logits = module(images)
    of_heads = [cross_entropy(logits[:, :3], targets[:, 0]), cross_entropy(logits[:, 3:], targets[:, 1])]
    expected = sum((losses * (index >= 0)).mean() for losses in of_heads) / 2
    torch.testing.assert_close(module.training_step((images, targets, index), 0), expected)


def test_gradients_reach_the_trunk_and_each_head_as_if_it_were_alone() -> None:
    module, (images, targets, index) = two_heads()
    loss = module.training_step((images, targets, index), 0)
    *of_trunk, of_head, _ = torch.autograd.grad(loss, list(module.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in of_trunk)
    for number, rows in enumerate((slice(0, 3), slice(3, 8))):
        alone = PseudoLabelClassifier(module.trunk, rows.stop - rows.start).train(False)
        alone.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
        alone.head.load_state_dict({"weight": module.head.weight[rows], "bias": module.head.bias[rows]})
        loss = alone.training_step((images, targets[:, number, 0], index), 0)
        (expected,) = torch.autograd.grad(loss, [alone.head.weight])
        assert expected.abs().sum() > 0
        torch.testing.assert_close(of_head[rows], expected / 2)


def test_a_shape_of_targets_means_one_thing() -> None:
    module, (images, targets, index) = two_heads()
    for wrong in (targets[:, :, 0], targets[:, 0, 0]):  # tags of one head; classes of one head
        with pytest.raises(ValueError, match=r"targets of shape .* for heads of widths \[3, 5\]"):
            module.training_step((images, wrong, index), 0)
    with pytest.raises(ValueError, match="longer"):
        module.training_step((images, targets.repeat(1, 2, 1), index), 0)
    one = PseudoLabelClassifier(TinyTrunk(width=2).build(), 5)
    with pytest.raises(ValueError, match=r"targets of shape \(4, 2, 1\) for heads of widths \[5\]"):
        one.training_step((images, targets, index), 0)


def test_weights_of_one_head_are_drawn_after_those_of_the_trunk() -> None:
    torch.manual_seed(0)
    trunk = TinyTrunk(width=2).build()
    head = torch.nn.Linear(trunk.feature_dim, 5)
    torch.manual_seed(0)
    module = PseudoLabelClassifier(TinyTrunk(width=2).build(), 5)
    assert {name: tuple(weight.shape) for name, weight in module.head.state_dict().items()} == {
        "weight": (5, trunk.feature_dim),
        "bias": (5,),
    }
    assert torch.equal(module.head.weight, head.weight)
    assert torch.equal(module.head.bias, head.bias)


@pytest.mark.parametrize(
    ("num_classes", "targets", "expected"),
    [
        (3, [1, 1, 0, 1], {"val/top1": 0.75}),
        (3, [[1, 0], [0, 1], [0, -1], [2, 0]], {"val/top1": 0.5}),
        (
            {"k3": 3, "k5": 5},
            [[[1], [4]], [[1], [0]], [[0], [0]], [[1], [0]]],
            {"val/top1": 0.5, "val/top1_k3": 0.75, "val/top1_k5": 0.25},
        ),
    ],
    ids=["classes", "tags", "heads"],
)
def test_top1_of_all_and_of_each_head(num_classes: Any, targets: Any, expected: dict[str, float]) -> None:
    module = PseudoLabelClassifier(TinyTrunk(width=2).build(), num_classes)
    torch.nn.init.zeros_(module.head.weight)
    module.head.bias.data = torch.tensor([0.0, 1, 0, 0, 0, 0, 0, 1])[: len(module.head.bias)]
    images = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    samples = [(images[row], torch.tensor(targets[row]), row) for row in range(4)]
    samples.append((images[0], torch.tensor(targets[0]), ~0))  # not decoded: counts nowhere
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    (logged,) = trainer.validate(module, DataLoader(samples, batch_size=3), verbose=False)  # type: ignore[arg-type]
    assert {name: value for name, value in logged.items() if name != "val/loss"} == pytest.approx(expected)


def test_the_trunk_computes_in_the_trainings_precision_and_the_head_in_float32() -> None:
    module = PseudoLabelClassifier(TinyTrunk(width=2).build(), 3).train(False)
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, features = module(images), module.trunk(images)
        _, (scores,) = module._scores((images, torch.zeros(4, dtype=torch.int64), torch.arange(4)), 0)
    assert features.dtype == torch.bfloat16
    expected = module.head(features.float())
    assert logits.dtype == torch.float32
    assert torch.equal(logits, expected)
    assert torch.equal(scores.logits, expected)
