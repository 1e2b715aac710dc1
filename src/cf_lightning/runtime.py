"""The machine: what changes how fast a stage runs and where its files lie, never its numbers."""

import os
import sys
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cf_lightning.config import Component
from cf_lightning.nodes import Slurm


class Runtime(Component):
    """The ``runtime`` node of every stage; no part of any key.

    Attributes:
        store: the folder of artifacts; a POSIX file system with working locks.
        devices: processes of a stage, one device each; ``auto`` is every GPU, or one process on the CPU.
        nodes: machines, each with so many devices; several are those of a job of ``slurm``.
        slurm: how stages are submitted to SLURM; null runs them on this machine.
        accelerator: ``auto`` is CUDA where there is a GPU.
        shard: on several devices, weights, gradients and optimiser state of a trunk in training are divided
            among them (FSDP); a single device has all of them either way.
        divide_head: on several devices, from so many classes on a head is divided among them.
        workers: loader processes for each device; ``auto`` follows the cores. With 0 a stage reads its
            samples itself, and waits for each of them as long as it takes.
        loader_timeout: seconds that a loader process may take for one sample; then the run ends with the name
            of its file.
        checkpoint_minutes: between checkpoints within an epoch; each epoch of a training ends with one, too.
        isolate: run a stage that has a GPU or several devices in processes of its own (torchrun).
        progress: show progress bars; ``auto`` shows them on a terminal.
        logger: a component of ``tracking/`` or null.
        run_dir: where the run's results and logs go.
        experiment: the experiment's name, for the loggers and the result table.
        overrides: the command line's, so that a report can say how to repeat the run.
        sweep_dir: the folder of the multirun that the run is a job of; null where it is none.
    """

    store: str = "artifacts"
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    nodes: int = Field(default=1, ge=1)
    slurm: Slurm | None = None
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    shard: bool = False
    divide_head: int = Field(default=100_000, ge=2)
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    loader_timeout: float = Field(default=600, gt=0)
    checkpoint_minutes: float = Field(default=10, gt=0)
    isolate: bool = True
    progress: bool | Literal["auto"] = "auto"
    logger: Any = None
    run_dir: str = "."
    experiment: str = "custom"
    overrides: list[str] = []
    sweep_dir: str | None = None

    @model_validator(mode="after")
    def _other_machines(self) -> Self:
        if self.slurm is None and self.nodes > 1:
            raise ValueError(f"nodes={self.nodes}: several are those of a SLURM job; add runtime=slurm")
        if self.slurm and "auto" in (self.devices, self.accelerator):
            raise ValueError(
                "with runtime=slurm say what a node has, which may not be what this machine has: "
                "runtime.accelerator=cuda runtime.devices=8"
            )
        return self

    def device_kind(self) -> Literal["cpu", "cuda"]:
        """Where stages compute; imports torch when the accelerator is ``auto``."""
        if self.accelerator != "auto":
            return self.accelerator
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def num_devices(self) -> int:
        """Processes of a stage that uses every device."""
        if self.devices != "auto":
            return self.devices
        if self.device_kind() == "cpu":
            return 1
        import torch

        return torch.cuda.device_count()

    def num_processes(self) -> int:
        """Of a stage that uses every device of every node."""
        return self.nodes * self.num_devices()

    def known_processes(self) -> int | None:
        """The same where the configuration says it, without a look at the machine."""
        return None if self.devices == "auto" else self.nodes * self.devices

    def num_workers(self) -> int:
        """Loader processes of one device; 0 loads in the training process itself."""
        if self.workers != "auto":
            return self.workers
        return min(16, _cores() // self.num_devices()) if self.device_kind() == "cuda" else 0

    def num_decoders(self) -> int:
        """Loader processes of a stage that only decodes, on one machine: every core, whatever the device."""
        if self.workers != "auto":
            return self.workers
        return _cores() if _cores() > 1 else 0

    def num_threads(self) -> int:
        """Threads of torch in each process: the cores, divided between the processes of this machine."""
        here = self.slurm is not None and self.slurm.cluster == "local"
        return max(1, _cores() // (self.num_processes() if here else self.num_devices()))

    def shows_progress(self) -> bool:
        """Whether somebody is looking."""
        return sys.stdout.isatty() if self.progress == "auto" else self.progress


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
