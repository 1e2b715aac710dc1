"""Weights & Biases: one run for each stage, grouped by experiment and sweep."""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PrivateAttr

from cf_lightning.results import Result
from cf_lightning.runs import Run
from cf_lightning.runtime import Runtime
from cf_lightning.tracking.base import Tracker

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from cf_lightning.tracking.wandb_session import Session


log = logging.getLogger(__name__)


class WandbTracker(Tracker):
    """W&B runs with job type = stage, ``results`` or ``sweep``, in the group of their experiment and sweep.

    A run's id is drawn once and kept in the folder that it tells of: a resumed stage resumes its run, a
    stage done anew has a new one, and a run's or a sweep's results stay in one place. W&B's files lie in
    the run's folder. What fails in W&B is missing there, with a warning, and ends no stage; see
    ``tracking/wandb_session.py``, and ``tracking/wandb_lineage.py`` for the artifacts.

    Attributes:
        project: W&B project.
        entity: user or team; null is the key's own.
        mode: ``auto`` is online with an API key and offline without (``wandb sync`` later), ``online``
            refuses to run without a key. WANDB_MODE in the environment holds over it.
        upload: send the artifacts' files; else W&B knows where in the store they lie.
        init_timeout: seconds to wait for the server when a run opens, before it goes on offline.
        finish_timeout: seconds to wait for uploads when it ends; what is left is for ``wandb sync``.
    """

    project: str = "cf_lightning"
    entity: str | None = None
    mode: Literal["auto", "online", "offline"] = "auto"
    upload: bool = False
    init_timeout: float = Field(default=60.0, gt=0)
    finish_timeout: float = Field(default=600.0, gt=0)

    _sessions: list["Session"] = PrivateAttr(default_factory=list)

    def check(self, folder: Path) -> None:
        """Log in; without a key or a server this run stays offline, in all its processes."""
        if self._mode() == "online":
            from cf_lightning.tracking.wandb_session import connect

            connect(folder, required=self.mode == "online")
        elif self.mode == "online":
            log.warning(
                "runtime.logger.mode=online, but WANDB_MODE in the environment says otherwise and holds"
            )

    @contextmanager
    def run(
        self, stage: str, out: Path, runtime: Runtime, config: dict[str, Any], inputs: dict[str, Path]
    ) -> Iterator[None]:
        """Open the stage's run, log its inputs, facts and artifact, and finish it in any case."""
        from cf_lightning.tracking.wandb_lineage import log_input, log_output

        known = {
            "key": out.stem,
            "inputs": {name: f"{folder.parent.name}/{folder.name}" for name, folder in inputs.items()},
            "overrides": runtime.overrides,
        }
        place, group = Path(runtime.run_dir), _group(runtime.experiment, runtime.sweep_dir)
        with self._session(out, place, f"{stage}-{out.stem[:8]}", stage, group, config | known) as session:
            self._sessions.append(session)
            try:
                with session.attempt():
                    session.run.define_metric("trainer/global_step")
                    session.run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
                for folder in inputs.values():
                    with session.attempt():
                        log_input(session.run, folder, self.upload)
                yield
                with session.attempt():
                    if (out / "facts.json").exists():
                        session.run.summary.update(json.loads((out / "facts.json").read_text()))
                    log_output(session.run, out, self.upload)
            finally:
                self._sessions.pop()

    def lightning(self) -> "Logger | bool":
        """A ``WandbLogger`` on the open run."""
        if not self._sessions:
            return False
        from cf_lightning.tracking.wandb_logger import SessionLogger

        return SessionLogger(self._sessions[-1])

    def show(
        self, numbers: dict[str, Any], tables: dict[str, list[dict[str, Any]]], pictures: dict[str, Path]
    ) -> None:
        """Numbers go to the summary, tables to ``tables/<name>``, pictures to ``pictures/<name>``."""
        if not self._sessions:
            return
        import wandb
        from PIL import Image

        def cell(value: Any) -> Any:
            return wandb.Image(value) if isinstance(value, Image.Image) else value

        session = self._sessions[-1]
        with session.attempt():
            session.run.summary.update(numbers)
            shown = _pictures(pictures)
            for name, rows in tables.items():
                data = [[cell(value) for value in row.values()] for row in rows]
                shown[f"tables/{name}"] = wandb.Table(columns=list(rows[0]) if rows else [], data=data)
            session.run.log(shown)

    def results(self, folder: Path, run: Run, results: Sequence[Result]) -> None:
        """One run of job type ``results``: the table, gains, timings and cache hits, the report."""
        from cf_lightning.tracking import wandb_tables as tables

        config = run.model_dump(include={"experiment", "overrides", "environment"})
        config |= {"k": results[0].k, "seed": results[0].seed} if results else {}
        group = _group(run.experiment, run.sweep)
        with self._anew(folder, "results", group, config) as session, session.attempt():
            shown = {
                "tables/results": tables.csv_table(folder / "results.csv"),
                "tables/gains": tables.gains_table(results),
                "tables/stages": tables.steps_table(run.steps),
            }
            session.run.log(shown | _report(folder))
            session.run.summary.update(tables.gain_numbers(results))
            numbers = {"seconds": run.seconds, "objective": run.objective}
            session.run.summary.update(numbers | {"cached": sum(step.cached for step in run.steps)})

    def sweep(self, folder: Path) -> None:
        """One run of job type ``sweep``: the table of all jobs, curves over k, the pictures, the report."""
        from cf_lightning.sweep import job_folders, points, read_jobs
        from cf_lightning.tracking import wandb_tables as tables

        self.check(folder)  # the jobs have done so in their own processes
        jobs = read_jobs(job_folders(folder))
        experiment = next((job.run.experiment for job in jobs if job.run), "custom")
        group = _group(experiment, str(folder))
        with self._anew(folder, "sweep", group, {"experiment": experiment}) as session, session.attempt():
            curves: dict[str, Any] = {**tables.k_curves(points(jobs))}
            pictures = {file.stem: file for file in sorted(folder.glob("*.png"))}
            table = {"tables/sweep": tables.csv_table(folder / "sweep.csv")}
            session.run.log(table | curves | _pictures(pictures) | _report(folder))
            done = sum(job.problem is None for job in jobs)
            session.run.summary.update({"done": done, "failed": sum(job.failed for job in jobs)})

    @contextmanager
    def _anew(self, folder: Path, kind: str, group: str, config: dict[str, Any]) -> Iterator["Session"]:
        """A run that is logged whole each time: what an earlier time has left here unsent is outdated."""
        from cf_lightning.tracking.wandb_service import end_service
        from cf_lightning.tracking.wandb_session import ID_FILE

        if (folder / ID_FILE).exists():
            for outdated in (folder / "wandb").glob(f"offline-run-*-{(folder / ID_FILE).read_text()}"):
                shutil.rmtree(outdated, ignore_errors=True)
        try:
            with self._session(folder, folder, f"{kind} {folder.name}", kind, group, config) as session:
                yield session
        finally:
            end_service()  # the next job's process would inherit it

    @contextmanager
    def _session(
        self, home: Path, place: Path, name: str, job_type: str, group: str, config: dict[str, Any]
    ) -> Iterator["Session"]:
        """An open run whose id is kept in ``home`` and whose files lie in ``place``."""
        import wandb

        from cf_lightning.tracking.wandb_session import session

        place.mkdir(parents=True, exist_ok=True)
        mode = self._mode()
        settings = wandb.Settings(
            init_timeout=self.init_timeout,
            finish_timeout=self.finish_timeout,
            quiet=True,
            silent=mode == "offline",  # it would explain in three lines for every stage what that is
        )
        with session(
            mode,
            home,
            settings=settings,
            project=self.project,
            entity=self.entity,
            group=group,
            job_type=job_type,
            name=name,
            dir=str(place),
            config=config,
        ) as opened:
            yield opened

    def _mode(self) -> str:
        return os.environ.get("WANDB_MODE") or ("offline" if self.mode == "offline" else "online")


def _group(experiment: str, sweep: str | None) -> str:
    return f"{experiment}/{Path(sweep).name}" if sweep else experiment


def _pictures(files: dict[str, Path]) -> dict[str, Any]:
    import wandb

    return {f"pictures/{name}": wandb.Image(str(file)) for name, file in files.items()}


def _report(folder: Path) -> dict[str, Any]:
    import wandb

    file = folder / "report.html"
    return {"report": wandb.Html(file)} if file.exists() else {}
