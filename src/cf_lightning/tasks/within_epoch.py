"""What an unfinished epoch has beside weights and optimiser: its loss so far, and where its draws are."""

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torchmetrics import MeanMetric


def so_far(loss: MeanMetric, trainer: Trainer) -> dict[str, Tensor]:
    """For a checkpoint: the loss of each rank, (W, 2), zero where the epoch is over, and torch's generators.

    Every rank seeds and uses its generators alike, so that those of one are those of all.
    """
    every = trainer.strategy.all_gather(torch.stack([loss.mean_value, loss.weight])).reshape(-1, 2).cpu()
    is_over = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
    state = {"loss": torch.zeros_like(every) if is_over else every, "cpu": torch.get_rng_state()}
    device = trainer.strategy.root_device
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def go_on(loss: MeanMetric, state: dict[str, Tensor], trainer: Trainer) -> None:
    """Continue from ``so_far``; where the number of ranks is another one, the first has the loss of all."""
    every = state["loss"]
    if len(every) != trainer.world_size:
        every = torch.cat([every.sum(0, keepdim=True), torch.zeros(trainer.world_size - 1, 2)])
    mean_value, weight = every[trainer.global_rank]
    loss.mean_value.copy_(mean_value)
    loss.weight.copy_(weight)
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], trainer.strategy.root_device)
