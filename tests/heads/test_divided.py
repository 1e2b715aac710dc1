"""A head whose classes are divided among two and three processes, against one that has the whole batch."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from cf_lightning.heads.base import HeadRecipe
from cf_lightning.heads.cosine import Cosine
from cf_lightning.heads.head import Head
from cf_lightning.heads.labels import Labels
from cf_lightning.heads.linear import Linear
from cf_lightning.losses.base import Loss
from cf_lightning.losses.cross_entropy import CrossEntropy
from cf_lightning.losses.multi_label import MLC, MLCD

LOSSES: dict[str, Loss] = {
    "cross-entropy": CrossEntropy(),
    "smoothed": CrossEntropy(label_smoothing=0.2),
    "MLC": MLC(),
    "MLCD": MLCD(),
}
WIDTHS = {"one": [23], "several": [3, 20]}  # of the several, the last rank has nothing of the first
RATES = (1.0, 0.3)
PLACES = ("divided", "whole")
CASES = list(itertools.product(LOSSES, ("linear", "cosine"), WIDTHS, RATES, PLACES))
BATCH, DIM = 12, 8

Found = dict[str, Tensor]


def recipe(head: str, loss: str, rate: float) -> HeadRecipe:
    if head == "linear":
        return Linear(rate=rate)
    return Cosine(scale=8.0, margin=0.3, near=None if loss == "smoothed" else 0.4, rate=rate)


def samples(widths: Sequence[int]) -> tuple[Tensor, list[Labels]]:
    """Up to three labels each; samples 1 and 7, which are mixed with each other, have none."""
    torch.manual_seed(5)
    heads = []
    for width in widths:
        targets = torch.stack([torch.randperm(width)[:3] for _ in range(BATCH)])
        targets[torch.rand(BATCH, 3) < 0.3] = -1
        targets[[1, 7]] = -1
        heads.append(Labels.even(targets))
    return torch.randn(BATCH, DIM), heads


def step(case: tuple[str, str, str, float, str], rank: int = 0, world: int = 1) -> Found:
    """Losses and gradients of the global batch, as every rank has them in the end."""
    loss, kind, several, rate, place = case
    features, heads = samples(WIDTHS[several])
    torch.manual_seed(6)
    head: Head = recipe(kind, loss, rate).build(DIM, WIDTHS[several])
    if world > 1 and place == "divided":
        head.divide(rank, world)
    features = features[rank::world].clone().requires_grad_()
    own = [Labels(one.classes[rank::world], one.weights[rank::world]) for one in heads]
    if LOSSES[loss].LINEAR:
        own = [labels.mixed(0.7) for labels in own]
    losses = torch.stack([LOSSES[loss](scores) for scores in head.scores(features, own, seed=1, step=2)])
    losses.mean(0).mean().backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    found = {"losses": dealt(losses.detach().T, world), "features": dealt(features.grad, world) / world}
    for name, gradient in zip(("weight", "bias"), gradients(head), strict=False):
        if world > 1 and place == "divided":
            found[name] = head.place.assembled(gradient)  # type: ignore[union-attr]
        elif rate == 1:
            found[name] = dealt(gradient[None], world).mean(0)  # what DDP does
        else:
            found[name] = gradient
    head.assemble()
    return {**found, **{f"whole {name}": value for name, value in head.state_dict().items()}}


def gradients(head: Head) -> list[Tensor]:
    for classes, rows in zip(head.classes(), head.taken, strict=False):  # none at rate 1
        assert head.used is not None
        assert rows.grad is not None
        classes.grad = torch.zeros_like(classes).index_copy_(0, head.used, rows.grad)
    return [classes.grad for classes in head.classes() if classes.grad is not None]


def dealt(values: Tensor, world: int) -> Tensor:
    """Of all ranks, sample q of the global batch on rank q mod R."""
    if world == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(world)]
    torch.distributed.all_gather(parts, values.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)


def work(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world
    )
    torch.save([step(case, rank, world) for case in CASES], folder / f"{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 3])
def on_ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[list[Found]]:
    """What each rank found in each case."""
    folder, world = tmp_path_factory.mktemp("ranks"), request.param
    spawn(work, args=(world, folder), nprocs=world)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CASES)), ids=[" ".join(map(str, case)) for case in CASES])
def test_processes_agree_with_one(number: int, on_ranks: list[list[Found]]) -> None:
    alone = step(CASES[number])
    assert alone["features"][[1, 7]].abs().sum() == 0
    assert (alone["losses"].sum(1) > 0).sum() == BATCH - 2
    for found in on_ranks:
        assert found[number].keys() == alone.keys()
        for name, expected in alone.items():
            torch.testing.assert_close(found[number][name], expected, rtol=1e-4, atol=1e-6, msg=name)
