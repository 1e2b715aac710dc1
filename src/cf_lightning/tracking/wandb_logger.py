"""Lightning's ``WandbLogger`` on a run that may fail."""

from collections.abc import Mapping

from lightning.pytorch.loggers import WandbLogger

from cf_lightning.tracking.wandb_session import Session


class SessionLogger(WandbLogger):
    """Log the metrics of a fit; a failing W&B does not end it.

    Args:
        session: the open run.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(experiment=session.run)
        self._session = session

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log them at the trainer's step."""
        with self._session.attempt():
            super().log_metrics(metrics, step)
