"""What an unfinished epoch has beside weights and optimiser: its loss so far, and where its draws are."""

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torchmetrics import MeanMetric


def so_far(loss: MeanMetric, trainer: Trainer) -> dict[str, Tensor]:
    """For a checkpoint: the loss of all ranks, zero where the epoch is over, and torch's generators.

    Every rank seeds and uses its generators alike, so that those of one are those of all.
    """
    sums = trainer.strategy.reduce(torch.stack([loss.mean_value, loss.weight]), reduce_op="sum")
    is_over = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
    state = {"loss": torch.zeros(2) if is_over else sums.cpu(), "cpu": torch.get_rng_state()}
    device = trainer.strategy.root_device
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def go_on(loss: MeanMetric, state: dict[str, Tensor], trainer: Trainer) -> None:
    """Continue from ``so_far``; one rank has the loss of all."""
    if trainer.is_global_zero:
        loss.mean_value.copy_(state["loss"][0])
        loss.weight.copy_(state["loss"][1])
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], trainer.strategy.root_device)
