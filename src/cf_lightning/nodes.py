"""Stages on other machines: each is a SLURM job in which every node runs a torchrun."""

import importlib.util
import logging
import os
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from cf_lightning import torchrun
from cf_lightning.config import Component
from cf_lightning.errors import ConfigError

if TYPE_CHECKING:
    import subprocess

    from submitit.helpers import DelayedSubmission

    from cf_lightning.runtime import Runtime

WATCH = 1.0  # seconds between two looks at a job


class Resources(Component):
    """What a job asks SLURM for.

    Attributes:
        partition: of the cluster, as are the next three; null is the cluster's own default.
        account: that is charged.
        qos: quality of service.
        constraint: of the nodes, such as ``h100``.
        minutes: until SLURM ends the job; shortly before, it saves and goes back into the queue.
        cpus: cores of each node.
        memory_gb: of each node.
        more: any other option of sbatch by its name.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    minutes: int = Field(default=1440, ge=1)
    cpus: int = Field(default=16, ge=1)
    memory_gb: int | None = Field(default=None, ge=1)
    more: dict[str, str | int] = {}


class Slurm(Resources):
    """Submit every stage by submitit; the driver may sit on a login node.

    A job that is preempted, or whose time is over, saves, is queued again and goes on within its epoch.

    Attributes:
        cluster: ``local`` starts the nodes as processes of this machine, to try it.
        attempts: a stage whose node is lost is submitted so often in all, and goes on from its checkpoint.
        stages: what a stage asks for in place of the above, by its name: ``{cluster: {minutes: 60}}``.
    """

    cluster: Literal["slurm", "local"] = "slurm"
    attempts: int = Field(default=3, ge=1)
    stages: dict[str, Resources] = {}

    def check(self) -> None:
        """Raise ``ConfigError`` where nothing can be submitted from."""
        if importlib.util.find_spec("submitit") is None:
            raise ConfigError("runtime=slurm: submitit is not installed: pip install 'cf-lightning[sweep]'")
        if self.cluster == "slurm" and shutil.which("srun") is None:
            raise ConfigError(
                "runtime.slurm.cluster=slurm: there is no srun on this machine; start the command where jobs "
                "are submitted from, or try it with runtime.slurm.cluster=local"
            )

    def resources(self, stage: str) -> Resources:
        """Of one stage."""
        own = self.stages[stage].model_dump(exclude_unset=True) if stage in self.stages else {}
        return Resources(**self.model_dump(include=set(Resources.model_fields)) | own)

    def run(self, partial: Path, runtime: "Runtime", nodes: int, processes: int) -> None:
        """Submit the stage whose job lies in ``partial``, and wait for it.

        Args:
            partial: where its files go, on a file system that all nodes share.
            runtime: of the stage.
            nodes: of the job.
            processes: on each node.

        Raises:
            UserError: that of a worker.
            RuntimeError: the job has failed, or its nodes were lost too often.
        """
        folder = partial.with_suffix(".jobs")
        folder.mkdir(mode=0o700, exist_ok=True)  # submitit executes what lies there
        for attempt in range(1, self.attempts + 1):
            torchrun.forget(partial)
            agent = Agent(partial, nodes, processes, runtime.num_threads(), free_port())
            code = self._submitted(agent, folder, runtime, nodes)
            torchrun.tell_warnings(partial)
            if code == 0:
                torchrun.forget(partial)
                shutil.rmtree(folder)
                return
            if code is not None:
                torchrun.fail(partial, f"ended with code {code}; see {folder}")
            logging.getLogger(__name__).warning(
                f"{partial.parent.name}: a node was lost, attempt {attempt} of {self.attempts}; see {folder}"
            )
        torchrun.fail(partial, f"lost a node {self.attempts} times (runtime.slurm.attempts); see {folder}")

    def _submitted(self, agent: "Agent", folder: Path, runtime: "Runtime", nodes: int) -> int | None:
        """The code with which the group has ended; ``None`` where a node has none to tell."""
        import submitit

        executor = submitit.AutoExecutor(folder=folder, cluster=self.cluster)
        executor.update_parameters(**self._parameters(agent.partial.parent.name, runtime, nodes))
        job = executor.submit(agent)
        try:
            while not job.done():
                time.sleep(WATCH)
        except BaseException:
            job.cancel(check=False)
            raise
        told = [job.task(number).paths.result_pickle.exists() for number in range(nodes)]
        return int(job.task(0).result()) if all(told) else None

    def _parameters(self, stage: str, runtime: "Runtime", nodes: int) -> dict[str, Any]:
        asked = self.resources(stage)
        gpus = runtime.num_devices() if runtime.device_kind() == "cuda" else 0
        general: dict[str, Any] = {"name": f"cf_{stage}", "timeout_min": asked.minutes, "gpus_per_node": gpus}
        if self.cluster == "local":
            return {**general, "tasks_per_node": nodes}
        named = asked.model_dump(include={"partition", "account", "qos", "constraint"}, exclude_none=True)
        memory = {} if asked.memory_gb is None else {"mem_gb": asked.memory_gb}
        slurm = {f"slurm_{name}": value for name, value in named.items()}
        more = {"slurm_additional_parameters": asked.more} if asked.more else {}
        place = {"nodes": nodes, "tasks_per_node": 1, "cpus_per_task": asked.cpus}
        return {**general, **place, **memory, **slurm, **more}


class Agent:
    """One node's part of a stage: what submitit calls there. It pickles this object in the job's own folder.

    Args:
        partial: where the stage's files go.
        nodes: of the job.
        processes: on each node.
        threads: of each process.
        port: at which the first node waits for the others.
    """

    def __init__(self, partial: Path, nodes: int, processes: int, threads: int, port: int) -> None:
        self.partial, self.nodes, self.processes = partial, nodes, processes
        self.threads, self.port = threads, port

    def __call__(self) -> int:
        """Run this node's workers; the code with which they end."""
        import submitit

        job = submitit.JobEnvironment()
        job.paths.result_pickle.unlink(missing_ok=True)  # of the time before this job was queued again
        self._group = torchrun.start(
            self.partial,
            self.processes,
            self.threads,
            [
                f"--nnodes={self.nodes}",
                "--rdzv-backend=c10d",
                f"--rdzv-endpoint={job.hostnames[0]}:{self.port}",
                f"--rdzv-id={job.job_id}",
            ],
            job.global_rank,
        )
        while (code := self._group.poll()) is None:
            time.sleep(WATCH)
        return code

    def checkpoint(self) -> "DelayedSubmission":
        """The job is preempted: have the workers save, then go on in the next life of the job."""
        from submitit.helpers import DelayedSubmission

        self._group.send_signal(signal.SIGTERM)
        os.waitpid(self._group.pid, 0)  # Popen.wait may hold a lock below this signal's handler
        return DelayedSubmission(Agent(self.partial, self.nodes, self.processes, self.threads, self.port))

    _group: "subprocess.Popen[bytes]"


def check_node(stage: Any, job: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Raise ``ConfigError`` where this node has other packages or other data than the driver."""
    from cf_lightning.data.index import Index
    from cf_lightning.data.source import Source
    from cf_lightning.execution import versions

    here = f"node {socket.gethostname()}"
    for package, version in versions().items():
        if version != job["versions"].get(package):
            raise ConfigError(
                f"{here} has {package} {version}, the driver {job['versions'].get(package, 'none')}: "
                f"run the same environment on every node"
            )
    source = getattr(stage, "data", None)
    if isinstance(source, Source) and "data" in inputs and os.environ.get("LOCAL_RANK", "0") == "0":
        expected, found = Index.read(inputs["data"]).fingerprint, source.index().fingerprint
        if found != expected:
            raise ConfigError(
                f"root={source.root}: {here} finds other data there ({found}) than the driver ({expected}); "
                f"give every node the same files"
            )


def free_port() -> int:
    """One that is free here; a job's nodes are hardly used by anybody else."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
