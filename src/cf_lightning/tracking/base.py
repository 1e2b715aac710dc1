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

    def show(
        self, numbers: dict[str, Any], tables: dict[str, list[dict[str, Any]]], pictures: dict[str, Path]
    ) -> None:
        """Show a finished stage's findings; a logger that has no place for them leaves it at that.

        Args:
            numbers: by name, nested as they are.
            tables: by name, each a list of rows with the same columns; a cell may be a Pillow image.
            pictures: image files by name.
        """
        return
