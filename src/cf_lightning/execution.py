"""Running one step: in the driver on one CPU process, else as a group of processes of its own."""

import fcntl
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cf_lightning import torchrun
from cf_lightning.errors import ConfigError
from cf_lightning.precision import resolve_precision
from cf_lightning.stages.base import Stage
from cf_lightning.store import Store, clear
from cf_lightning.worker import run_stage

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
    precision: Any = getattr(stage, "precision", "32-true")
    if stage.runtime.slurm is None:  # else the nodes have other processors than this machine
        precision = resolve_precision(precision, kind)
    machine = {"device": kind, "precision": precision}
    packages = versions()
    inputs = {name: str(store.path(used.stage, used.key)) for name, used in step.inputs.items()}
    with _no_survivors(partial):
        _begin(partial, {"node": step.node, "inputs": inputs, "machine": machine, "versions": packages})
        _launch(partial, stage)
    (partial / "job.json").unlink()
    facts_file = partial / "facts.json"
    facts = json.loads(facts_file.read_text()) if facts_file.exists() else {}
    return {"config": step.node, "facts": facts, **machine, "versions": packages, "commit": commit()}


def _launch(partial: Path, stage: Stage) -> None:
    """On the nodes of a SLURM job, as a torchrun of this machine, or in this process."""
    runtime, on_all = stage.runtime, stage.ranks() == "all"
    num_processes = runtime.num_devices() if on_all else 1
    if runtime.slurm is not None:
        runtime.slurm.run(partial, runtime, runtime.nodes if on_all else 1, num_processes)
    elif runtime.isolate and (num_processes > 1 or runtime.device_kind() == "cuda"):
        torchrun.run(partial, num_processes, runtime.num_threads())
    elif num_processes > 1:
        raise ConfigError(f"runtime.isolate=false runs in one process; runtime.devices={num_processes}")
    else:
        run_stage(partial)


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
