"""Heads: what competes, what a margin does, and what the optimiser touches."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cf_lightning.config import build, conf_dir
from cf_lightning.heads.cosine_head import CosineHead
from cf_lightning.heads.head import Head
from cf_lightning.heads.labels import Labels
from cf_lightning.heads.rows_only import RowsOnly
from cf_lightning.heads.scores import MASKED
from cf_lightning.losses.base import Loss
from cf_lightning.losses.cross_entropy import CrossEntropy
from cf_lightning.losses.multi_label import MLC, MLCD
from cf_lightning.optimization import SGD, AdamW, Optimization

ALL = sorted(file.stem for file in (conf_dir() / "clusterfit" / "head").glob("*.yaml"))
LOSSES = (CrossEntropy(), MLC(), MLCD())


def samples(classes: int = 50, several: int = 2) -> tuple[Tensor, Labels]:
    torch.manual_seed(1)
    targets = torch.stack([torch.randperm(classes)[:several] for _ in range(6)])
    targets[2, 1] = -1
    return torch.randn(6, 8), Labels.even(targets)


def losses_and_gradient(head: Head, features: Tensor, labels: Labels, loss: Loss) -> tuple[Tensor, Tensor]:
    (scores,) = head.scores(features, [labels], seed=0, step=3)
    losses = loss(scores)
    (gradient,) = torch.autograd.grad(losses.mean(), head.taken[:1] or [head.weight])
    return losses, gradient


def train(
    head: Head, optimizer: torch.optim.Optimizer, features: Tensor, labels: Labels, step: int, passes: int = 1
) -> set[int]:
    """One step as the training makes it; the rows that competed in one of its passes."""
    rows_only, used = RowsOnly(head), set()
    for number in range(passes):
        part = Labels(labels.classes[number::passes], labels.weights[number::passes])
        (scores,) = head.scores(features[number::passes], [part], seed=0, step=step)
        (CrossEntropy()(scores).mean() / passes).backward()
        rows_only.add()
        used |= set(range(50) if head.used is None else head.used.tolist())
    rows_only.cut(optimizer)
    optimizer.step()
    rows_only.put_back(optimizer)
    optimizer.zero_grad()
    return used


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ALL)
def test_a_rate_that_takes_every_class_equals_the_full_head(
    name: str, loss: Loss, compose: Callable[..., dict[str, Any]]
) -> None:
    cfg = compose("+experiment=demo", f"clusterfit/head={name}")
    head = build(cfg["clusterfit"]["task"]["head"], "head").build(8, [50])
    features, labels = samples()
    expected = losses_and_gradient(head, features, labels, loss)
    assert head.used is None
    head.rate = 1 - 1e-12  # every draw is below: all classes pass through the sampled path
    found = losses_and_gradient(head, features, labels, loss)
    assert head.used.tolist() == list(range(50))
    torch.testing.assert_close(found, expected)


def test_what_competes_is_the_batch_and_a_share_of_the_others() -> None:
    head, (features, labels) = Head(8, [2000], rate=0.1), samples(2000)
    (scores,) = head.scores(features, [labels], seed=0, step=0)
    used = head.used
    assert used is not None
    present = labels.classes[labels.classes >= 0]
    assert set(present.tolist()) <= set(used.tolist())
    assert 150 < len(used) < 265  # 0.1 of 2,000 and the batch's
    torch.testing.assert_close(scores.logits, head(features)[:, used])
    columns = scores.labels.classes
    assert torch.equal(used[columns.clamp(min=0)].where(columns >= 0, -1), labels.classes)
    head.scores(features, [labels], seed=0, step=1)
    assert head.used is not None
    assert len(set(head.used.tolist()) & set(used.tolist())) < 60
    head.scores(features, [labels], seed=0, step=0)
    assert torch.equal(head.used, used)


def test_several_heads_draw_their_own_classes() -> None:
    head, (features, labels) = Head(8, [50, 30], rate=0.2), samples(30)
    first, second = head.scores(features, [labels, labels], seed=0, step=0)
    whole = head(features)
    assert head.used is not None
    rows = head.used.split([first.logits.shape[1], second.logits.shape[1]])
    assert rows[0].max() < 50 <= rows[1].min()
    for scores, own, start in zip((first, second), rows, (0, 50), strict=True):
        torch.testing.assert_close(scores.logits, whole[:, own])
        present = labels.classes >= 0
        assert torch.equal(own[scores.labels.classes.clamp(min=0)][present], labels.classes[present] + start)


def test_validation_is_over_all_classes_without_a_margin() -> None:
    head = CosineHead(8, [50], scale=10.0, margin=0.5, near=0.1, rate=0.1).eval()
    features, labels = samples()
    (scores,) = head.scores(features, [labels], seed=0, step=0)
    cosines = functional.cosine_similarity(features[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(scores.logits, 10 * cosines)
    assert scores.labels is labels


def test_the_margin_is_taken_from_labels_and_near_classes_take_no_part() -> None:
    head = CosineHead(8, [50], scale=10.0, margin=0.5, near=0.1)
    features, labels = samples()
    (scores,) = head.scores(features, [labels], seed=0, step=0)
    for row in range(6):
        own = [k for k in labels.classes[row].tolist() if k >= 0]
        for k in range(50):
            cosine = float(functional.cosine_similarity(features[row], head.weight[k].detach(), dim=0))
            near = MASKED if cosine > 0.1 else 10 * cosine
            expected = 10 * (cosine - 0.5) if k in own else near
            assert float(scores.logits[row, k]) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("recipe", [SGD(weight_decay=0.1), AdamW(weight_decay=0.1)], ids=["SGD", "AdamW"])
def test_only_rows_that_competed_change(recipe: Optimization, passes: int) -> None:
    head, (features, labels) = Head(8, [50], rate=0.2), samples()
    optimizer = recipe.optimizer(head, lr=0.1)
    for step in range(3):
        before, state = head.weight.detach().clone(), optimizer.state[head.weight]
        momentum = {n: v.clone() for n, v in state.items() if v.shape == head.weight.shape}
        used = train(head, optimizer, features, labels, step, passes)
        rests = torch.ones(50, dtype=torch.bool)
        rests[list(used)] = False
        assert rests.any()
        assert torch.equal(head.weight[rests], before[rests])
        assert (head.weight[~rests] != before[~rests]).any(dim=1).all()
        for name, value in momentum.items():
            assert torch.equal(optimizer.state[head.weight][name][rests], value[rests])


@pytest.mark.parametrize("passes", [1, 3])
def test_steps_on_all_rows_are_the_optimisers_own(passes: int) -> None:
    torch.manual_seed(0)
    features, labels = samples()
    ends = []
    for rate in (1.0, 1 - 1e-12):
        torch.manual_seed(2)
        head = Head(8, [50], rate=rate)
        optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
        for step in range(3):
            train(head, optimizer, features, labels, step, passes if rate < 1 else 1)
        ends.append(head.weight.detach())
    torch.testing.assert_close(*ends)


def test_a_head_that_forgets_is_initialised_as_a_new_one() -> None:
    torch.manual_seed(0)
    new = nn.Linear(8, 50)
    head = Head(8, [20, 30])
    torch.manual_seed(0)
    head.reset_parameters()
    assert torch.equal(head.weight, new.weight)
    assert head.bias is not None
    assert torch.equal(head.bias, new.bias)
