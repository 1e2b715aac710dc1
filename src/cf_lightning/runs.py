"""``run.json``: what a run was, did and how it ended; all that a report of it needs beside its artifacts."""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cf_lightning.errors import DataError, UserError
from cf_lightning.results import replace_file

if TYPE_CHECKING:
    from cf_lightning.plan import Plan

FILE = "run.json"


class RunStep(BaseModel):
    """One artifact of a run.

    Attributes:
        stage: its folder in the store.
        key: its name there.
        title: what it is, for people.
        inputs: of each input, by its name, ``<stage>/<key>``.
        cached: it was there before.
        seconds: what its making took, then or now; null when it was not made.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    stage: str
    key: str
    title: str
    inputs: dict[str, str]
    cached: bool
    seconds: float | None


class Run(BaseModel):
    """The record of one run.

    Attributes:
        status: ``running`` also stands where a run was killed.
        error: what ended a failed run.
        experiment: its name.
        overrides: the command line, as in ``python -m cf_lightning <overrides>``.
        sweep: the folder of the multirun that it is a job of.
        started: ISO 8601, UTC.
        seconds: from the first check to the table.
        store: the folder of its artifacts.
        steps: in the order in which they ran.
        objective: what a sweeper maximises; see ``results.objective``.
        environment: machine and versions.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    status: Literal["running", "done", "failed"] = "running"
    error: str | None = None
    experiment: str
    overrides: list[str]
    sweep: str | None = None
    started: str
    seconds: float = 0.0
    store: str
    steps: list[RunStep] = []
    objective: float | None = None
    environment: dict[str, str] = {}

    def write(self, folder: Path) -> None:
        """Replace ``folder/run.json`` in one atomic step."""
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / FILE, self.model_dump_json(indent=1))

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """What ``write`` wrote.

        Raises:
            DataError: there is no ``run.json`` or it is something else.
        """
        file = folder / FILE
        try:
            return cls.model_validate_json(file.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(f"{file}: there is no such file, so {folder.name} is no run's folder") from None
        except (ValidationError, UnicodeDecodeError) as error:
            problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise DataError(f"{file}: not the record of a run ({problem})") from None

    def needs(self, plan: "Plan", folder: Path) -> None:
        """Write down the steps as they are now; whoever cleans the store up leaves them alone."""
        self.steps = [
            RunStep(
                stage=step.stage,
                key=step.key,
                title=step.title,
                inputs={name: f"{used.stage}/{used.key}" for name, used in step.inputs.items()},
                cached=step.cached,
                seconds=step.seconds if step.manifest else None,
            )
            for step in plan.steps
        ]
        self.write(folder)

    def by_key(self) -> dict[str, RunStep]:
        """The steps as inputs name them, ``<stage>/<key>``."""
        return {f"{step.stage}/{step.key}": step for step in self.steps}

    def path(self, step: RunStep) -> Path:
        """Where a step's artifact lies."""
        return Path(self.store) / step.stage / step.key


@contextmanager
def recorded(plan: "Plan", runtime: dict[str, Any]) -> Iterator[Run]:
    """Keep ``run.json`` in the run's folder from its start to its end, whichever way that comes.

    Args:
        plan: checked.
        runtime: the resolved node.
    """
    folder, start = Path(runtime["run_dir"]), time.monotonic()
    run = Run(
        experiment=runtime["experiment"],
        overrides=runtime["overrides"],
        sweep=runtime["sweep_dir"],
        started=now(),
        store=str(plan.store.root),
        environment=environment(),
    )
    run.write(folder)
    try:
        yield run
        run.status = "done"
    except BaseException as error:
        run.status, run.error = "failed", _told(error)
        raise
    finally:
        run.seconds = round(time.monotonic() - start, 2)
        run.needs(plan, folder)


def now() -> str:
    """ISO 8601, UTC, as in ``Run.started``."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, str]:
    """The machine and the versions of what computes."""
    from cf_lightning.execution import commit, versions

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = {"platform": platform.platform(), "processor": _processor(), "cores": str(cores)}
    return {**machine, **versions(), "commit": commit() or "unknown"}


def _processor() -> str:
    """Its name as Linux knows it, or its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    name = next((line for line in lines if line.startswith("model name")), None)
    return name.partition(":")[2].strip() if name else platform.machine()


def _told(error: BaseException) -> str:
    """A user's error in its own words, another one with its class."""
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {error}".rstrip(": ")
