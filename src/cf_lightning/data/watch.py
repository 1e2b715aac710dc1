"""Loader processes are watched: one that dies or hangs ends the run with the name of the file it was at."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import Structure, c_int64
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawArray
from threading import Event, Thread

from cf_lightning.errors import DataError, UserError

TICK = 1.0  # seconds between two looks at the processes
NONE = -1  # no row
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)


class Place(Structure):
    """Where a loader process is, in memory that it shares with its parent: three machine words, no lock.

    Attributes:
        pid: of the process.
        row: that it reads, ``NONE`` between two batches.
        begun: how many rows it has begun with, for one may follow upon itself.
    """

    _fields_ = (("pid", c_int64), ("row", c_int64), ("begun", c_int64))


_here = Place()  # of this process; its parent sees it where it is a loader's


def reads(row: int) -> None:
    """Note the row that this process begins with, or ``NONE``."""
    _here.row = row
    _here.begun += 1


def is_watched() -> bool:
    """Whether this is a process of a loader with a watch."""
    return bool(_here.pid)


class Watch:
    """Of the processes of one loader, each of which calls it as its ``worker_init_fn``.

    Args:
        processes: how many.
        patience: seconds that a process may take for one sample. They are counted by this process, so that
            none seems to hang because all of them were stopped for a while.
    """

    def __init__(self, processes: int, patience: float) -> None:
        self.patience = patience
        self._places = RawArray(Place, processes)
        self._hung: list[int] = []

    def __call__(self, number: int) -> None:
        """In loader process ``number``, before it reads anything."""
        global _here
        _here = self._places[number]
        _here.pid, _here.row = os.getpid(), NONE

    @contextmanager
    def over(self, processes: list[BaseProcess]) -> Iterator[None]:
        """Within, a process that hangs is killed: this one may wait for it in a way that nothing can end."""
        done = Event()
        Thread(target=self._look, args=[processes, done], daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def _look(self, processes: list[BaseProcess], done: Event) -> None:
        seen, waited = [(0, 0)] * len(self._places), [0.0] * len(self._places)
        while not done.wait(TICK):
            for number, place in enumerate(self._places):
                now = (place.row, place.begun)
                stays = now == seen[number] and place.row != NONE
                seen[number], waited[number] = now, waited[number] + TICK if stays else 0.0
                if waited[number] >= self.patience:
                    self._kill(processes, place.pid)

    def _kill(self, processes: list[BaseProcess], pid: int) -> None:
        for process in processes:
            if process.pid == pid and process.is_alive():
                self._hung.append(pid)
                process.kill()

    def failure(self, processes: list[BaseProcess], name: Callable[[int], str]) -> UserError | None:
        """What has ended one of the processes; ``None`` where all of them live.

        Args:
            processes: of the loader.
            name: of a row's file, for the message.
        """
        wait([process.sentinel for process in processes], timeout=TICK)  # one may be dying
        rows = {place.pid: place.row for place in self._places}
        for process in processes:
            if process.is_alive():
                continue
            row = rows.get(process.pid or 0, NONE)
            file = "between two batches" if row == NONE else f"at {name(row)}"
            if process.pid in self._hung:
                return DataError(
                    f"a loader process stood still {file} for {self.patience:g} s and was ended; mend or "
                    "remove the file, see whether its file system answers, or raise runtime.loader_timeout"
                )
            return UserError(f"a loader process died {file} ({_how(process.exitcode or 0, len(processes))}")
        return None


def _how(code: int, processes: int) -> str:
    """The signal, what it mostly means, and what helps."""
    number, fewer = -code, f"runtime.workers={processes // 2}"
    if code >= 0:
        return f"exit code {code}); what it said stands above, or begin with {fewer}"
    if number in CRASHES:
        return f"signal {number}, {signal.strsignal(number)}: a decoder has crashed); mend or remove the file"
    if number == signal.SIGBUS:
        return f"signal {number}: shared memory is full?); give a container more --shm-size, or take {fewer}"
    if number == signal.SIGKILL:
        return f"signal {number}: out of memory?); fewer of them take less: {fewer}"
    return f"signal {number}, {signal.strsignal(number)}); something outside of the run has ended it"
