"""A connection to W&B that may fail at any time without hurting what it watches.

How wandb 0.31 behaves, and what is made of it here:

* ``wandb.init`` raises ``CommError`` when the server is not reached within ``init_timeout``, and keeps the
  id in use until the service ends: then the run is begun offline under the same id.
* The id of a run that was deleted on the server is refused for good (409): a new one is drawn.
* ``run.finish()`` waits for its uploads without end unless there is a ``finish_timeout``; what was not sent
  stays in the run's folder for ``wandb sync``.
* Offline, ``resume`` is ignored: an interrupted stage leaves two folders of one id, and ``wandb sync`` sends
  them one after the other. A folder whose process was killed is sent as failed.
"""

import logging
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb
from wandb.errors import AuthenticationError

from cf_lightning.errors import ConfigError
from cf_lightning.tracking.wandb_service import end_service

log = logging.getLogger(__name__)

ID_FILE = "wandb_id.txt"


class Session:
    """An open run; what fails in it is missing there, with one warning, and stops nothing.

    Args:
        run: as ``wandb.init`` gave it.
    """

    def __init__(self, run: wandb.Run) -> None:
        self.run = run
        self._warned = False

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Do something with the run that may fail."""
        try:
            yield
        except Exception as error:
            if not self._warned:
                log.warning(f"W&B: {self.run.name} is not complete there: {_told(error)}")
            self._warned = True


def connect(folder: Path, required: bool) -> None:
    """See whether there is a key and a server; without them this process and its children stay offline.

    Args:
        folder: where W&B's files will lie.
        required: without a key, nothing shall run.

    Raises:
        ConfigError: there is no key and it is required.
    """
    try:
        if wandb.login(prompt=False, verify=True):
            return
        if required:
            raise ConfigError(
                "runtime.logger.mode=online: W&B has no API key here; call `wandb login`, set "
                "WANDB_API_KEY, or take runtime.logger.mode=offline"
            )
        reason = "no API key (`wandb login`), or `wandb offline` was called here"
    except AuthenticationError as error:
        reason = _told(error)
    finally:
        end_service()  # it would be inherited by the stages
    os.environ["WANDB_MODE"] = "offline"
    log.warning(f"W&B: {reason}; nothing is sent now, `wandb sync {folder / 'wandb'}` sends it later")


@contextmanager
def session(mode: str, folder: Path, **about: Any) -> Iterator[Session]:
    """A run from its start to its end, with a true exit code whichever way that comes.

    Args:
        mode: ``online``, which becomes ``offline`` in this process when it fails, and that ``disabled``.
        folder: where its id is kept.
        about: further arguments of ``wandb.init``, among them ``name`` and ``dir``.
    """
    with _staging(Path(about["dir"]) / "wandb"):
        opened = Session(_opened(mode, folder, about))
        failed = 1
        try:
            yield opened
            failed = 0
        finally:
            with opened.attempt():
                opened.run.finish(exit_code=failed)


@contextmanager
def _staging(folder: Path) -> Iterator[None]:
    """Let W&B keep the contents of tables and artifacts there until they are sent, not in the user's home."""
    before = os.environ.get("WANDB_DATA_DIR")
    os.environ["WANDB_DATA_DIR"] = before or str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["WANDB_DATA_DIR"]


def _opened(mode: str, folder: Path, about: dict[str, Any]) -> wandb.Run:
    later = f"the rest is kept for `wandb sync {Path(about['dir']) / 'wandb'}`"
    instead = {"online": ("offline", later), "offline": ("disabled", "nothing of it is logged")}
    while True:
        try:
            return _init(mode, folder, about)
        except Exception as error:
            if mode == "disabled":
                raise
            end_service()
            mode, then = instead.get(mode, instead["offline"])
            os.environ["WANDB_MODE"] = mode
            log.warning(f"W&B: {about['name']} cannot be opened: {_told(error)}; {then}")


def _init(mode: str, folder: Path, about: dict[str, Any]) -> wandb.Run:
    """Resume the run whose id lies in the folder, or begin one; a deleted one is begun anew."""
    file = folder / ID_FILE
    for attempt in range(2):
        if not file.exists():
            file.write_text(uuid.uuid4().hex[:8])
        run_id = file.read_text()
        try:
            return wandb.init(mode=mode, id=run_id, resume="allow", reinit="create_new", **about)  # type: ignore[arg-type]
        except wandb.Error as error:
            if mode != "online" or attempt or not re.search(r"\b409\b|deleted", str(error)):
                raise
            end_service()
            file.unlink()
            log.warning(f"W&B: run {run_id} was deleted on the server; {about['name']} begins a new one")
    raise AssertionError("the second attempt returns or raises")


def _told(error: Exception) -> str:
    """The first line of what it says."""
    return (str(error) or type(error).__name__).splitlines()[0]
