"""One process of one stage: what torchrun starts, and what the driver calls for a stage of its own.

``python -m cf_lightning.worker FOLDER`` replays ``FOLDER/job.json``, which the driver has written.
"""

import atexit
import ctypes
import fcntl
import json
import logging
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn

from cf_lightning.preemption import exit_when_asked

WARNING = "cf_lightning warning: "  # how the driver finds our warnings among the group's noise


def die_with_parent(parent: int) -> None:
    """Ask Linux for a SIGKILL when the parent dies; torchrun's workers survive it otherwise.

    Args:
        parent: its process id; if another process is the parent by now, it has died before.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def leave() -> NoReturn:
    """End a successful process without tearing its interpreter down.

    A thread of gloo may still drop a tensor while Python finalizes, and then aborts the process, which
    would turn a finished stage into a failed one (pytorch/pytorch#190489).
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def run_stage(folder: Path) -> None:
    """Build the stage of ``folder/job.json`` and run it on its input folders, tracked by its logger."""
    from cf_lightning.config import build
    from cf_lightning.memory import enough_for
    from cf_lightning.nodes import check_node

    job = json.loads((folder / "job.json").read_text())
    name = folder.parent.name
    stage = build(job["node"], name)
    inputs = {key: Path(path) for key, path in job["inputs"].items()}
    if stage.runtime.slurm is not None:
        check_node(stage, job, inputs)
    tracker = stage.runtime.logger if os.environ.get("RANK", "0") == "0" else None
    tracked = tracker.run(name, folder, stage.runtime, job["node"], inputs) if tracker else nullcontext()
    with tracked, enough_for(stage):
        stage.run(folder, **inputs)


def main() -> None:
    """Run the stage; leave a user's error in ``error.txt`` for the driver to show."""
    from cf_lightning.errors import UserError
    from cf_lightning.store import explained

    folder = Path(sys.argv[1])
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{WARNING}%(message)s"))
    logging.getLogger("cf_lightning").addHandler(handler)

    with open(folder.with_suffix(".ranks"), "w") as alive:
        fcntl.flock(alive, fcntl.LOCK_SH)
        try:
            with explained(folder.parents[1]):
                run_stage(folder)
        except UserError as error:
            (folder / "error.txt").write_text(str(error))
            sys.exit(1)


if __name__ == "__main__":
    if os.getppid() == 1:  # torchrun is gone already; it is never the first process itself
        sys.exit(1)
    die_with_parent(os.getppid())
    exit_when_asked()
    main()
    leave()
