"""What a logger is: it follows one stage at a time, in the process of global rank zero."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cf_lightning.config import Component

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from cf_lightning.results import Result
    from cf_lightning.runs import Run
    from cf_lightning.runtime import Runtime


class Tracker(Component, ABC):
    """A ``logger=`` option; it changes no key."""

    def check(self, folder: Path) -> None:
        """Find out, once and before anything runs, whether the logger can do its work.

        Args:
            folder: of the run.

        Raises:
            ConfigError: with the key, its value, and what would be right.
        """
        return

    @abstractmethod
    @contextmanager
    def run(
        self, stage: str, out: Path, runtime: "Runtime", config: dict[str, Any], inputs: dict[str, Path]
    ) -> Iterator[None]:
        """Follow one stage from its start to its end, whichever way that comes.

        Args:
            stage: its name.
            out: its partial folder; what identifies the run is kept there, so that a resumed stage
                resumes its run.
            runtime: run folder and experiment.
            config: the stage's node.
            inputs: the folders of the artifacts that it reads.
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

    def results(self, folder: Path, run: "Run", results: "Sequence[Result]") -> None:
        """Show what a finished run has found; called by the driver.

        Args:
            folder: of the run, with ``results.csv`` and, if there is one, ``report.html``.
            run: its record, complete.
            results: the rows of its table.
        """
        return

    def sweep(self, folder: Path) -> None:
        """Show where a sweep stands; called after each of its jobs, under the sweep's lock.

        Args:
            folder: of the sweep, with ``sweep.csv`` and its pictures.
        """
        return
