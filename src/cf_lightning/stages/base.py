"""What every stage is: settings, a check that needs no heavy import, and a run."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

from cf_lightning.config import Component
from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError
from cf_lightning.precision import check_precision
from cf_lightning.runtime import Runtime


class Stage(Component, ABC):
    """One step of the method, from folders to a folder.

    Attributes:
        runtime: the machine; no part of the artifact's key.
        RANKS: what ``ranks`` says unless a stage knows better.
    """

    runtime: Runtime = Runtime()
    RANKS: ClassVar[Literal["all", "one"]] = "all"

    def check(self, **indexes: Index) -> None:
        """Find what is wrong before anything runs.

        Args:
            indexes: the index of each data input, by the input's name.

        Raises:
            UserError: with the key, its value, and what would be right.
        """

    def check_machine(self, index: Index) -> None:
        """Raise ``ConfigError``: no SLURM here, no such arithmetic, or more processes than samples."""
        if self.runtime.slurm is not None:
            self.runtime.slurm.check()
        check_precision(getattr(self, "precision", "32-true"), self.runtime)
        processes = self.runtime.known_processes() if self.ranks() == "all" else None
        if processes and processes > len(index):
            raise ConfigError(
                f"runtime.devices={self.runtime.devices} on runtime.nodes={self.runtime.nodes}: {processes} "
                f"processes for the {len(index)} samples of root={index.origin}; at most {len(index)}"
            )

    def disk_bytes(self, **indexes: Index) -> int | None:
        """What the artifact will need on disk, ``None`` where that is not known beforehand."""
        return None

    def operations(self, **indexes: Index) -> float | None:
        """Floating-point operations of the stage, ``None`` where they do not matter or are not known."""
        return None

    def ranks(self) -> Literal["all", "one"]:
        """``all`` runs the stage once on every device, ``one`` in a single process."""
        return self.RANKS

    @abstractmethod
    def run(self, out: Path, **inputs: Path) -> None:
        """Read the input folders and write the artifact's files into ``out``.

        ``out`` may hold what an earlier attempt with the same key left behind: continue from it.
        With ranks ``all`` it is called once in each process of the group.
        """
