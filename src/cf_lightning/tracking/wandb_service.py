"""The end of W&B's service, the process of its own that talks to the server."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from threading import Timer

import wandb


def end_service(patience: float = 10.0) -> None:
    """End the service of this process, which the processes that it starts would inherit.

    ``wandb.teardown`` waits for it without end, and now and then the service does not hear that it shall end
    (wandb 0.31, where no server could be reached). So it is killed then: runs were finished before, and
    what they logged is on disk.

    Args:
        patience: seconds to wait for it.
    """
    timer = Timer(patience, _kill_service)
    timer.daemon = True
    timer.start()
    with suppress(SystemExit):  # what it does about a service that was killed
        wandb.teardown()
    timer.cancel()


def _kill_service() -> None:
    """Kill the children of this process that are W&B's service; only Linux tells which they are."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = file.read_text().partition("(")[2].rpartition(")")
            parent = int(rest.split()[1])
        except OSError:  # it has ended meanwhile
            continue
        if parent == os.getpid() and name.startswith("wandb-core"):
            os.kill(int(file.parent.name), signal.SIGKILL)
