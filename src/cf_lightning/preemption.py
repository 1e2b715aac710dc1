"""Signals that ask a process to end soon: SIGTERM, and SIGUSR1, which SLURM can send ahead.

A process ends at once, unless it trains: then it ends after the batch and a checkpoint
(``callbacks/training_checkpoint.py``). Extraction records its rows as they come. Either way the same command
goes on from there.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def exit_when_asked() -> None:
    """End with code 128 + number and tidy up on the way; Lightning alone would end as if it had succeeded."""
    on_signals(lambda number: sys.exit(128 + number))


def on_signals(act: Callable[[int], object]) -> None:
    """Call ``act`` with the signal's number from now on."""

    def handler(number: int, frame: FrameType | None) -> None:
        act(number)

    for number in SIGNALS:
        signal.signal(number, handler)


def requeue(code: object) -> bool:
    """Put this SLURM job back into the queue if SIGUSR1 has ended it (``#SBATCH --signal=B:USR1@120``).

    Args:
        code: with which the process ends.

    Returns:
        Whether SLURM has taken it back.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if code != 128 + signal.SIGUSR1 or job is None:
        return False
    try:
        return subprocess.run(["scontrol", "requeue", job], check=False).returncode == 0
    except FileNotFoundError:
        return False
