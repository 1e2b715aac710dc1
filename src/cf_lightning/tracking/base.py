"""What a logger is: it follows one stage at a time, in the process of global rank zero."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cf_lightning.config import Component

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from cf_lightning.runtime import Runtime


class Tracker(Component, ABC):
    """A ``logger=`` option; it changes no key."""

    @abstractmethod
    @contextmanager
    def run(self, stage: str, out: Path, runtime: "Runtime", config: dict[str, Any]) -> Iterator[None]:
        """Follow one stage from its start to its end, whichever way that comes.

        Args:
            stage: its name.
            out: its partial folder; what identifies the run is kept there, so that a resumed stage
                resumes its run.
            runtime: run folder and experiment.
            config: the stage's node.
        """
        yield

    @abstractmethod
    def lightning(self) -> "Logger | bool":
        """The logger for this stage's ``lightning.Trainer``; False outside ``run``, as on other ranks."""
