"""``KMeansCallback`` in the training of a student, which begins with clusters of its teacher."""

from lightning.pytorch import LightningModule, Trainer

from cf_lightning.callbacks.kmeans import KMeansCallback


class Reclustering(KMeansCallback):
    """The first clusters are there when the fit begins, so that the first own ones are due after n epochs."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Count from epoch 0, unless a checkpoint that is loaded after this knows better."""
        self._epoch = 0
