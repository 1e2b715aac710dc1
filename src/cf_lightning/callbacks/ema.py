"""A running mean of the weights, which is what a training publishes."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging

from cf_lightning.sharding import ShardStrategy


class RunningMean(EMAWeightAveraging):
    """Lightning's, also for a training whose last epoch another attempt has finished.

    Lightning does not begin such a training, and so does not end it with the mean either.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The mean is divided as the module has been; both had the checkpoint's weights before."""
        if isinstance(trainer.strategy, ShardStrategy):
            assert self._average_model is not None
            trainer.strategy.divide(self._average_model.module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The module has the mean now; where it had it before, nothing changes."""
        self._copy_average_to_current(pl_module)
