"""Running one step: in the driver on one CPU process, else as a torchrun of its own."""

import fcntl
import importlib.metadata
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cf_lightning.errors import ConfigError, UserError
from cf_lightning.precision import resolve_precision
from cf_lightning.store import Store, clear
from cf_lightning.worker import WARNING, die_with_parent, run_stage

if TYPE_CHECKING:
    from cf_lightning.plan import Step

PACKAGES = ("cf-lightning", "torch", "torchvision", "lightning", "faiss-gpu", "faiss-cpu", "numpy")


def execute(step: "Step", store: Store) -> dict[str, Any]:
    """Fill the step's partial folder and return what its manifest says of the making."""
    partial = store.partial(step.stage, step.key)
    partial.mkdir(parents=True, exist_ok=True)
    if step.index is not None:
        step.index.write(partial)
        return {"config": step.node, "facts": step.index.summary()}
    stage = step.built()
    kind = stage.runtime.device_kind()
    machine = {"device": kind, "precision": resolve_precision(getattr(stage, "precision", "32-true"), kind)}
    inputs = {name: str(store.path(used.stage, used.key)) for name, used in step.inputs.items()}
    with _no_survivors(partial):
        _begin(partial, {"node": step.node, "inputs": inputs, "machine": machine})
        num_processes = stage.runtime.num_devices() if stage.ranks() == "all" else 1
        if stage.runtime.isolate and (num_processes > 1 or kind == "cuda"):
            _torchrun(partial, num_processes, stage.runtime.num_threads())
        elif num_processes > 1:
            raise ConfigError(f"runtime.isolate=false runs in one process; runtime.devices={num_processes}")
        else:
            run_stage(partial)
    (partial / "job.json").unlink()
    facts_file = partial / "facts.json"
    facts = json.loads(facts_file.read_text()) if facts_file.exists() else {}
    return {"config": step.node, "facts": facts, **machine, "versions": versions(), "commit": commit()}


def _begin(partial: Path, job: dict[str, Any]) -> None:
    """Write what the worker replays; empty the folder first if another kind of machine began it."""
    file = partial / "job.json"
    before = json.loads(file.read_text()) if file.exists() else None
    if before is None or before["machine"] != job["machine"]:
        clear(partial)
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(job, indent=2))
    os.replace(draft, file)


@contextmanager
def _no_survivors(partial: Path) -> Iterator[None]:
    """Wait until no process of an earlier attempt is left: each one holds a shared lock while it lives."""
    with open(partial.with_suffix(".ranks"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fcntl.flock(file, fcntl.LOCK_UN)
    yield
    partial.with_suffix(".ranks").unlink(missing_ok=True)


def _torchrun(partial: Path, num_processes: int, num_threads: int) -> None:
    """Start the group, wait for it, and raise the user's error if that is what ended it."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={num_processes}", "-m", "cf_lightning.worker", str(partial)]
    launched = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    environment = {name: value for name, value in os.environ.items() if name not in launched}
    environment["OMP_NUM_THREADS"] = str(num_threads)
    error = partial / "error.txt"
    error.unlink(missing_ok=True)
    log, driver = partial / "torchrun.log", os.getpid()
    with open(log, "a") as stderr:  # progress bars go to stdout
        group = subprocess.Popen(
            command, env=environment, preexec_fn=lambda: die_with_parent(driver), stderr=stderr
        )
        try:
            code = group.wait()
        finally:
            if group.poll() is None:
                group.terminate()
                group.wait()
    lines = log.read_text().splitlines()
    for line in dict.fromkeys(lines):
        if line.startswith(WARNING):
            logging.getLogger(__name__).warning(line.removeprefix(WARNING))
    if error.exists():
        raise UserError(error.read_text())
    if code:
        tail = "\n".join(lines[-40:])
        raise RuntimeError(f"{partial.parent.name}: the process group ended with code {code}\n{tail}")
    log.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Of Python and of the packages that compute."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"python": sys.version.split()[0], **found}


def commit() -> str | None:
    """The checkout's git commit, if the package runs from one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
