"""A stage as a group of processes: one torchrun on each node, and what it has to say in the end."""

import logging
import os
import subprocess
import sys
from errno import ENOENT
from pathlib import Path
from typing import NoReturn

from cf_lightning.errors import UserError
from cf_lightning.worker import WARNING, die_with_parent

LAUNCHED = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


def start(
    partial: Path, processes: int, threads: int, rendezvous: list[str], node: int = 0
) -> "subprocess.Popen[bytes]":
    """Start this node's workers of the stage whose job lies in ``partial``; they end with this process.

    Args:
        partial: where the stage's files go.
        processes: on this node.
        threads: of each.
        rendezvous: torchrun's options that say with which other nodes.
        node: this one's number.
    """
    command = [sys.executable, "-m", "torch.distributed.run", *rendezvous]
    command += [f"--nproc-per-node={processes}", "-m", "cf_lightning.worker", str(partial)]
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
    environment["OMP_NUM_THREADS"] = str(threads)
    parent = os.getpid()
    with open(partial / f"torchrun.{node}.log", "a") as stderr:  # progress bars go to stdout
        return subprocess.Popen(
            command, env=environment, preexec_fn=lambda: die_with_parent(parent), stderr=stderr
        )


def run(partial: Path, processes: int, threads: int) -> None:
    """Run the stage on this machine alone.

    Raises:
        UserError: that of a worker.
        RuntimeError: the group has failed.
    """
    forget(partial)
    group = start(partial, processes, threads, ["--standalone"])
    try:
        code = group.wait()
    finally:
        if group.poll() is None:
            group.terminate()
            group.wait()
    tell_warnings(partial)
    if code:
        fail(partial, f"ended with code {code}")
    forget(partial)


def forget(partial: Path) -> None:
    """Remove what an earlier attempt has said."""
    (partial / "error.txt").unlink(missing_ok=True)
    for log in _logs(partial):
        log.unlink()


def tell_warnings(partial: Path) -> None:
    """Pass our own warnings on, each once."""
    lines = [line for log in _logs(partial) for line in log.read_text().splitlines()]
    for line in dict.fromkeys(lines):
        if line.startswith(WARNING):
            logging.getLogger(__name__).warning(line.removeprefix(WARNING))


def fail(partial: Path, how: str) -> NoReturn:
    """Raise the user's error if that is what ended the group, else show the end of every node's log.

    Raises:
        UserError: that of a worker.
        FileNotFoundError: somebody has removed the folder.
        RuntimeError: anything else.
    """
    error = partial / "error.txt"
    if not partial.is_dir():
        raise FileNotFoundError(ENOENT, os.strerror(ENOENT), str(partial))
    if error.exists():
        raise UserError(error.read_text())
    tails = ["\n".join(log.read_text().splitlines()[-40:]) for log in _logs(partial)]
    raise RuntimeError("\n".join([f"{partial.parent.name}: the process group {how}", *tails]))


def _logs(partial: Path) -> list[Path]:
    return sorted(partial.glob("torchrun.*.log"))
