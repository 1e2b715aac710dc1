"""A training whose loss is no number ends at once, not when its weights are used."""

from math import isfinite

from lightning.pytorch import Callback, LightningModule, Trainer

from cf_lightning.errors import ConfigError


class FiniteLoss(Callback):
    """Ends a training after the first epoch of which the loss is NaN or infinite, before it is saved.

    Args:
        lr: learning rate of the recipe, for the message.
    """

    def __init__(self, lr: float) -> None:
        self.lr = lr

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the mean over the epoch, which is the same on all ranks.

        Raises:
            ConfigError: it is not finite.
        """
        loss = float(trainer.callback_metrics["train/loss"])
        if not isfinite(loss):
            raise ConfigError(
                f"optimization.lr={self.lr}: the training diverged in epoch {trainer.current_epoch + 1} "
                f"(loss {loss}); try a tenth of it, or precision=32-true"
            )
