"""A sweep: what its driver does before and after the jobs, and what surrounds each job.

Hydra's launchers call ``run_job`` for every job: the basic one in the driver, joblib and submitit in
processes of theirs. The job itself is one more process, so that one that is killed takes neither the
launcher's nor another job along.
"""

import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write
from pydantic import BaseModel

from cf_lightning.config import build
from cf_lightning.console import Console
from cf_lightning.errors import UserError
from cf_lightning.job import Output, run_process
from cf_lightning.runs import Run, now
from cf_lightning.security import allow
from cf_lightning.share import Share, machine, shares, slot
from cf_lightning.sweep import job_folders, read_jobs

LOG = "job.log"
SLOTS = ".slots"


class Sweep(BaseModel):
    """What the driver tells the jobs, in ``<sweep>/.slots/sweep.json``.

    Attributes:
        began: ISO 8601, UTC; older jobs in the folder are of an earlier command.
        overrides: the command line's, sweeps and all.
        shares: see ``share.shares``.
        driver: its process, where the jobs run on the same machine.
    """

    began: str
    overrides: list[str]
    shares: list[Share]
    driver: int | None

    @classmethod
    def read(cls, folder: Path) -> "Sweep":
        """What the driver of the sweep in ``folder`` wrote."""
        return cls.model_validate_json((folder / SLOTS / "sweep.json").read_bytes())

    def check_driver(self) -> None:
        """End a job that nobody waits for: joblib's and submitit's processes outlive a killed driver.

        Raises:
            UserError: it is gone.
        """
        try:
            if self.driver is not None:
                os.kill(self.driver, 0)
        except ProcessLookupError:
            raise UserError("interrupted: the command that started the sweep has ended") from None


class Driver(Callback):
    """Hydra's callback in the process that a person starts."""

    folder: ClassVar[Path | None] = None  # of the sweep that this process drives

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Divide the machine, while no launcher has hidden its GPUs or set its threads."""
        HydraConfig.instance().set_config(config)  # for ${hydra:...} in the sweep's folder
        if config.plan:
            return
        Driver.folder = Path(config.hydra.sweep.dir).absolute()
        whole = machine()
        if config.runtime.accelerator == "cpu":
            whole.gpus = []
        overrides: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
        parts = shares(config.hydra.launcher, whole, _num_jobs(config.hydra, overrides))
        if parts:
            print(f"jobs run {len(parts)} at a time, each on {parts[0]}; others wait", flush=True)
        if "timeout_min" in config.hydra.launcher:
            minutes = config.hydra.launcher.timeout_min
            print(f"a job is ended after {minutes} minutes (hydra.launcher.timeout_min)", flush=True)
        if "submitit_folder" in config.hydra.launcher:
            # submitit makes a folder that is named by the job when the job may have begun to write there
            with read_write(config.hydra.launcher):
                launcher = config.hydra.launcher
                launcher.submitit_folder = launcher.submitit_folder.replace("/%j", "")
        driver = os.getpid() if parts else None
        sweep = Sweep(began=now(), overrides=overrides, shares=parts, driver=driver)
        (Driver.folder / SLOTS).mkdir(parents=True, exist_ok=True)
        (Driver.folder / SLOTS / "sweep.json").write_text(sweep.model_dump_json(indent=1))


def _num_jobs(hydra: DictConfig, overrides: list[str]) -> int:
    """How many jobs there are, or, where the sweeper alone knows, how many it wants at once."""
    if not hydra.sweeper["_target_"].endswith(".BasicSweeper"):
        return int(hydra.sweeper.get("n_jobs") or sys.maxsize)
    lines = [f"{name}={value}" for name, value in (hydra.sweeper.params or {}).items()]
    try:
        parsed = OverridesParser.create().parse_overrides([*lines, *overrides])
        return len(BasicSweeper.split_arguments(parsed, None)[0])
    except HydraException:  # glob(*) needs what only the sweeper has
        return sys.maxsize


def run_job(cfg: DictConfig, number: int) -> float:
    """Run one job and keep its ``run.json`` true, also when it is killed.

    Args:
        cfg: of the job, with ``runtime`` filled in.
        number: of the job.

    Returns:
        What a sweeper maximises (``results.objective``).

    Raises:
        UserError: it failed; ``run.json`` says why, and ``conclude`` at the end.
    """
    folder, place, start = Path(cfg.runtime.run_dir), Path(cfg.runtime.sweep_dir), time.monotonic()
    sweep = Sweep.read(place)
    _begin(cfg.runtime, folder)
    error: str | None = "interrupted"
    with open(folder / LOG, "wb") as log:
        output = Output(log, f"[{number}] " if len(sweep.shares) > 1 else "")
        try:
            error = _attempt(cfg, sweep, output)
        except UserError as problem:
            output.say(error := str(problem))
        finally:
            run = Run.read(folder)
            if error is not None:
                seconds = round(time.monotonic() - start, 2)
                run.model_copy(update={"status": "failed", "error": error, "seconds": seconds}).write(folder)
    _rewrite(place, cfg)
    if error is not None:
        own = " ".join(one for one in cfg.runtime.overrides if one not in sweep.overrides)
        raise UserError(f"job {number} ({own}) failed: {folder / LOG}")
    return run.objective or 0.0


def _begin(runtime: DictConfig, folder: Path) -> None:
    """What stands in ``run.json`` until the job itself writes it; nothing of an earlier attempt."""
    Run(
        experiment=runtime.experiment,
        overrides=list(runtime.overrides),
        sweep=runtime.sweep_dir,
        started=now(),
        store=str(Path(runtime.store).expanduser().absolute()),
    ).write(folder)


def _attempt(cfg: DictConfig, sweep: Sweep, output: Output) -> str | None:
    """Wait for a share of the machine and run the job on it; says what went wrong."""
    folder = Path(cfg.runtime.run_dir)
    with slot(Path(cfg.runtime.sweep_dir) / SLOTS, sweep.shares, output.say) as share:
        share.check(cfg.runtime)
        if output.prefix or cfg.runtime.progress == "auto":
            cfg.runtime.progress = output.shows_progress
        code = run_process(cfg, share, output, sweep.check_driver)
    run = Run.read(folder)
    if run.status == "done":
        return None
    if run.error is not None:
        return run.error
    if code > 0:  # before it wrote anything
        lines = (folder / LOG).read_text(errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.strip()), f"ended with code {code}")
    name = signal.Signals(-code).name
    hint = "; if nobody did that, the machine was out of memory" if name == "SIGKILL" else ""
    output.say(error := f"killed by signal {-code} ({name}){hint}")
    return error


def _rewrite(folder: Path, cfg: DictConfig) -> None:
    """Bring the sweep's tables and pictures up to date; a job does not fail for want of them."""
    try:
        from cf_lightning.report.sweep_page import write_sweep

        allow(OmegaConf.to_container(cfg.security.allow))
        logger = cfg.runtime.logger
        node: Any = OmegaConf.to_container(logger, resolve=True) if logger else None
        write_sweep(folder, build(node, "runtime.logger") if node else None)
    except Exception as error:
        logging.getLogger(__name__).warning(
            "%s: tables and pictures were not rewritten: %s: %s", folder, type(error).__name__, error
        )


def conclude() -> bool:
    """If this process drove a sweep, show its table, and name the jobs that failed, each with its log.

    Returns:
        Whether there is one.
    """
    if Driver.folder is None or not (Driver.folder / SLOTS).exists():
        return False
    began = Sweep.read(Driver.folder).began
    jobs = [job for job in read_jobs(job_folders(Driver.folder)) if job.run and job.run.started >= began]
    failed, console = [job for job in jobs if job.problem], Console()
    if len(failed) < len(jobs):
        from cf_lightning.report.sweep_table import sweep_table

        console.table(sweep_table(jobs))
        console.note(f"{len(jobs) - len(failed)} of {len(jobs)} jobs are done; to look at:")
        console.note(str(Driver.folder / "report.html"))
    if not failed:
        return False
    lines = [f"\n{len(failed)} of {len(jobs)} jobs have no result; what they made is kept:"]
    for job in failed:
        lines.append(" ".join(["job", job.name, *job.overrides]))
        lines += [f"    {line}" for line in (job.problem or "").splitlines()]
        lines.append(f"    {job.folder / LOG}")
    print("\n".join(lines), file=sys.stderr)
    return True
