"""One job of a sweep as a process of its own: how it is started, and what it does.

``python -m cf_lightning.job`` runs the resolved configuration that it reads from its stdin.
"""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from tempfile import TemporaryFile
from threading import Thread
from typing import IO, BinaryIO

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cf_lightning.errors import ConfigError, UserError
from cf_lightning.preemption import exit_when_asked
from cf_lightning.share import Share
from cf_lightning.worker import die_with_parent

PATIENCE = 30  # seconds that a job has to tidy up before it is killed


class Output:
    """Where a job's output goes: its log, and this process's stdout.

    Args:
        log: open for writing.
        prefix: where jobs run at once, what stands before each of their lines: whole lines are passed
            on then, and bytes as they come otherwise, which keeps progress bars alive.
    """

    def __init__(self, log: BinaryIO, prefix: str) -> None:
        self.log = log
        self.prefix = prefix.encode()

    def write(self, text: bytes) -> None:
        """Pass some bytes on in one step, so that jobs do not write into each other's lines."""
        self.log.write(text)
        self.log.flush()
        sys.stdout.buffer.write(self.prefix + text)
        sys.stdout.buffer.flush()

    def say(self, line: str) -> None:
        """A line of our own."""
        self.write(f"{line}\n".encode())

    def follow(self, stream: IO[bytes]) -> None:
        """Pass everything on until the stream ends."""
        for piece in stream if self.prefix else iter(lambda: os.read(stream.fileno(), 65536), b""):
            self.write(piece if piece.endswith(b"\n") or not self.prefix else piece + b"\n")

    def environment(self) -> dict[str, str]:
        """What tells a job how wide the terminal is that its pipe leads to."""
        return {"COLUMNS": str(shutil.get_terminal_size().columns)} if self.shows_progress else {}

    @property
    def shows_progress(self) -> bool:
        """Bytes go as they come to somebody who looks."""
        return not self.prefix and sys.stdout.isatty()


def run_process(cfg: DictConfig, share: Share, output: Output, wanted: Callable[[], None]) -> int:
    """Run the job and wait for it.

    Args:
        cfg: of the job.
        share: all of the machine that it sees.
        output: is given what it writes.
        wanted: called every second; an exception from it ends the job.

    Returns:
        The exit code, negative for a signal.

    Raises:
        ConfigError: an interpolation in the configuration cannot be resolved.
    """
    driver = os.getpid()

    def confined() -> None:
        die_with_parent(driver)
        share.confine()

    with TemporaryFile() as job:
        job.write(_resolved(cfg).encode())
        job.seek(0)
        child = subprocess.Popen(
            [sys.executable, "-m", "cf_lightning.job"],
            stdin=job,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**share.environment(), "PYTHONUNBUFFERED": "1", **output.environment()},
            preexec_fn=confined,
            start_new_session=True,  # Ctrl-C comes here, and a SIGTERM goes there
        )
    assert child.stdout is not None
    reader = Thread(target=output.follow, args=[child.stdout], daemon=True)
    reader.start()
    try:
        while child.poll() is None:
            wanted()
            try:
                child.wait(timeout=1)
            except subprocess.TimeoutExpired:
                continue
    finally:
        _end(child)
        reader.join(timeout=5)  # something that the job has left behind may hold its end of the pipe
    return child.returncode


def _resolved(cfg: DictConfig) -> str:
    """The configuration without interpolations: some of them, such as ``${hydra:job.num}``, end here."""
    try:
        return OmegaConf.to_yaml(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error)) from error


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End the process if it runs: gently, for it has to end process groups of its own."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def main() -> None:
    """Run it; of a user's error the message alone is shown, as Hydra does for a run of its own."""
    from cf_lightning.pipeline import run

    logging.basicConfig(level=logging.WARNING, format="[%(asctime)s][%(name)s][%(levelname)s] - %(message)s")
    cfg = OmegaConf.create(sys.stdin.read())
    assert isinstance(cfg, DictConfig)
    try:
        run(cfg)
    except UserError as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        sys.exit(str(error))


if __name__ == "__main__":
    exit_when_asked()
    main()
