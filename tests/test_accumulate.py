"""One optimiser step of several passes is the step of the whole batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from cf_lightning.data.folder import FolderImages
from cf_lightning.data.images import ImageDataModule
from cf_lightning.data.views import Augmentation, View
from cf_lightning.models.trunk import Trunk
from cf_lightning.optimization import SGD, AdamW, Optimization
from cf_lightning.progress import RUNNING
from cf_lightning.tasks.pseudo_labels import PseudoLabelClassifier
from cf_lightning.trainer import StageProgressBar

BATCH = 12


class Seen(Callback):
    """Rows in their order, and what the bar has counted."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.step_losses: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.rows += batch[2].tolist()
        if len(self.rows) % BATCH == 0:
            self.step_losses.append(float(trainer.progress_bar_metrics["train/loss_step"]))


def without_statistics() -> Trunk:
    return Trunk(
        nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 8
    )


@pytest.fixture
def fit(image_folder: Callable[..., Path]) -> Callable[..., tuple[dict[str, torch.Tensor], Any, Seen]]:
    source = FolderImages(root=str(image_folder(per_class=18)), view=View(resize=18, crop=16), holdout=0.0)

    def fitted(optimization: Optimization, passes: int) -> tuple[dict[str, torch.Tensor], Any, Seen]:
        torch.manual_seed(0)
        module = PseudoLabelClassifier(without_statistics(), 3, optimization=optimization, batch_size=BATCH)
        data, seen = ImageDataModule(source, batch_size=BATCH, augmentation=Augmentation()), Seen()
        trainer = Trainer(
            **{"accelerator": "cpu", "logger": False, "enable_checkpointing": False},
            **{"enable_progress_bar": False, "enable_model_summary": False, "use_distributed_sampler": False},
            max_epochs=3,
            accumulate_grad_batches=passes,
            callbacks=[seen, StageProgressBar()],
        )
        trainer.fit(module, data)
        return dict(module.state_dict()), trainer, seen

    return fitted


@pytest.mark.parametrize("optimization", [SGD(lr=2.0, warmup=0.2), AdamW(lr=0.1)], ids=["SGD", "AdamW"])
def test_passes_make_the_step_of_the_whole_batch(optimization: Optimization, fit: Callable[..., Any]) -> None:
    (whole, one, first), (parts, four, second) = fit(optimization, 1), fit(optimization, 4)
    assert one.global_step == four.global_step == 3 * (54 // BATCH), "whole batches alone"
    assert second.rows == first.rows
    assert second.step_losses == pytest.approx(first.step_losses, rel=1e-5)
    losses = [float(trainer.callback_metrics["train/loss"]) for trainer in (one, four)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    rates = [trainer.optimizers[0].param_groups[0]["lr"] for trainer in (one, four)]
    assert rates[0] == rates[1]
    for name, expected in whole.items():
        torch.testing.assert_close(parts[name], expected, rtol=1e-4, atol=1e-6, msg=name)


def test_the_bar_counts_samples(fit: Callable[..., Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RUNNING, "clusterfit: student")
        _, trainer, _ = fit(SGD(), 4)
    (bar,) = [callback._bar for callback in trainer.callbacks if isinstance(callback, StageProgressBar)]
    assert bar.n == bar.total == 3 * 48


def test_a_batch_that_the_passes_cannot_share_is_refused(fit: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="a batch of 12 cannot be divided into 5 equal parts"):
        fit(SGD(), 5)
