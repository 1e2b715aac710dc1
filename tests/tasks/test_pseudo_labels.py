import pytest
import torch
from torch.nn import functional

from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.optimization import Optimization
from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier, cross_entropy


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
    module.log = lambda *args, **kwargs: None  # type: ignore[assignment, method-assign]
    clean = module.training_step((images[:3], targets[:3], torch.arange(3)), 0)
    spoiled = module.training_step((images, targets, torch.tensor([0, 1, 2, ~3])), 0)
    torch.testing.assert_close(spoiled, clean * 3 / 4)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("step", [1.0, 0.1, 0.01]), ("cosine", [1.0, 0.5, 0.0])],
)
def test_the_schedule_in_three_points(schedule: str, expected: list[float]) -> None:
    optimization = Optimization(lr=0.5, schedule=schedule, milestones=[0.4, 0.8])  # type: ignore[arg-type]
    parts = optimization.build(torch.nn.Linear(2, 2), batch_size=512, num_steps=10)
    rates = []
    for _ in range(11):
        rates.append(parts["optimizer"].param_groups[0]["lr"])
        parts["optimizer"].step()
        parts["lr_scheduler"]["scheduler"].step()
    assert [rates[0], rates[5], rates[10]] == pytest.approx(expected, abs=1e-9)


def test_warm_up_rises_from_a_tenth_and_norms_do_not_decay() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    parts = Optimization(lr=0.1, warmup=0.5).build(module, batch_size=256, num_steps=10)
    assert parts["optimizer"].param_groups[0]["lr"] == pytest.approx(0.01)
    decayed, free = parts["optimizer"].param_groups
    assert [p.ndim for p in decayed["params"]] == [4, 1]
    assert [tuple(p.shape) for p in free["params"]] == [(4,), (4,)]
    assert (decayed["weight_decay"], free["weight_decay"]) == (1e-4, 0.0)
