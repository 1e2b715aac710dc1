"""Every loss against a slow one, written from its formula class by class."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cf_lightning.config import build, conf_dir
from cf_lightning.heads.labels import Labels
from cf_lightning.heads.scores import Scores
from cf_lightning.losses.base import Loss
from cf_lightning.losses.cross_entropy import CrossEntropy
from cf_lightning.losses.multi_label import MLC, MLCD

ALL = sorted(file.stem for file in (conf_dir() / "clusterfit" / "loss").glob("*.yaml"))
LOGITS = torch.tensor(
    [[2.0, -1.0, 0.5, 0.1], [0.0, 3.0, -2.0, 1.0], [1.0, 1.0, 1.0, -4.0], [0.3, 0.2, 0.1, 0.0]]
)
TARGETS = torch.tensor([[0, 2], [3, -1], [1, 0], [-1, -1]])
WEIGHTS = torch.tensor([[0.75, 0.25], [1.0, 0.0], [0.5, 0.5], [0.0, 0.0]])


def slow_cross_entropy(smoothing: float) -> Callable[[list[float], dict[int, float]], float]:
    def loss(logits: list[float], shares: dict[int, float]) -> float:
        total = sum(math.exp(z) for z in logits)
        even = smoothing / len(logits)
        target = [(1 - smoothing) * shares.get(k, 0) + even for k in range(len(logits))]
        return -sum(share * math.log(math.exp(z) / total) for share, z in zip(target, logits, strict=True))

    return loss


def slow_mlc(logits: list[float], shares: dict[int, float]) -> float:
    pairs = [math.exp(logits[j] - logits[i]) for i in shares for j in range(len(logits)) if j not in shares]
    return math.log(1 + sum(pairs))


def slow_mlcd(logits: list[float], shares: dict[int, float]) -> float:
    positive = sum(math.exp(-logits[i]) for i in shares)
    negative = sum(math.exp(z) for j, z in enumerate(logits) if j not in shares)
    return math.log(1 + positive) + math.log(1 + negative)


@pytest.mark.parametrize(
    ("loss", "slow"),
    [
        (CrossEntropy(), slow_cross_entropy(0.0)),
        (CrossEntropy(label_smoothing=0.2), slow_cross_entropy(0.2)),
        (MLC(), slow_mlc),
        (MLCD(), slow_mlcd),
    ],
)
def test_a_loss_is_its_formula(loss: Loss, slow: Callable[..., float]) -> None:
    expected = []
    for logits, targets, weights in zip(LOGITS.tolist(), TARGETS.tolist(), WEIGHTS.tolist(), strict=True):
        shares = {k: w for k, w in zip(targets, weights, strict=True) if k >= 0}
        expected.append(slow(logits, shares) if shares else 0.0)
    found = loss(Scores(LOGITS, Labels(TARGETS, WEIGHTS)))
    torch.testing.assert_close(found, torch.tensor(expected))


def test_label_smoothing_is_torchs() -> None:
    targets = torch.tensor([3, 0, 1, 2])
    found = CrossEntropy(label_smoothing=0.1)(Scores(LOGITS, Labels.even(targets)))
    expected = torch.nn.functional.cross_entropy(LOGITS, targets, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ALL)
def test_every_loss_of_the_configuration_has_gradients_and_none_without_a_label(
    name: str, compose: Callable[..., dict[str, object]]
) -> None:
    cfg = compose("+experiment=demo", f"clusterfit/loss={name}")
    loss = build(cfg["clusterfit"]["task"]["loss"], "loss")  # type: ignore[index]
    logits = LOGITS.clone().requires_grad_()
    losses = loss(Scores(logits, Labels.even(TARGETS)))
    losses.sum().backward()
    assert losses[3] == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad[3], torch.zeros(4))
    for row, targets in enumerate(TARGETS[:3].tolist()):
        for k in range(
            4
        ):  # downhill is up for a label that is not shared out already, and down for all others
            if k not in targets:
                assert logits.grad[row, k] > 0


@pytest.mark.parametrize("loss", [CrossEntropy(), CrossEntropy(label_smoothing=0.1)])
def test_mixed_labels_have_the_mixed_loss(loss: Loss) -> None:
    labels, other = Labels.even(TARGETS[:2]), Labels.even(TARGETS[:2].roll(1, 0))
    logits = LOGITS[:2]
    mixed = loss(Scores(logits, labels.mixed(0.7)))
    expected = 0.7 * loss(Scores(logits, labels)) + 0.3 * loss(Scores(logits, other))
    torch.testing.assert_close(mixed, expected)


def test_all_classes_as_labels_leave_finite_gradients() -> None:
    for loss in (MLC(), MLCD()):
        logits = torch.zeros(1, 2, requires_grad=True)
        loss(Scores(logits, Labels.even(torch.tensor([[0, 1]])))).sum().backward()
        assert isinstance(logits.grad, Tensor)
        assert logits.grad.isfinite().all()
