"""The loader under every stage: torch's, whose processes are watched."""

import signal
import threading
from collections.abc import Iterator
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from typing import Any

from torch.utils.data import DataLoader

from cf_lightning.data.watch import Watch
from cf_lightning.errors import UserError


class Loader(DataLoader[Any]):
    """Begins when its first batch is wanted: Lightning makes an iterator before it reads the checkpoint.

    Workers would load ahead an epoch that was had. In prediction Lightning notes the rows of every batch, for
    its own writers: of batches that are over they are forgotten, or memory would grow with the samples.

    With a ``Watch`` as its ``worker_init_fn``, a process that dies or hangs ends it with a ``UserError`` that
    names the file by ``dataset.name(row)``, and a batch that is a ``UserError`` is raised: torch would add a
    traceback to it.
    """

    def __init__(self, dataset: Any, **settings: Any) -> None:
        super().__init__(dataset, **settings)
        self._processes: list[BaseProcess] = []

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        watched = self.num_workers and isinstance(self.worker_init_fn, Watch)
        for number, batch in enumerate(self._watched() if watched else super().__iter__()):
            if number > 1 and (seen := getattr(self.batch_sampler, "seen_batch_indices", None)):
                seen[number - 2] = ()  # Lightning may be one batch ahead
            yield batch

    def _watched(self) -> Iterator[Any]:
        watch: Any = self.worker_init_fn
        batches: Iterator[Any] | None = None
        with watch.over(self._processes):
            while True:
                failure: UserError | None = None
                try:
                    if batches is None:  # processes that persist may have died since the last epoch
                        batches = self._begun()
                    batch = next(batches)
                except StopIteration:
                    return
                except (EOFError, OSError, RuntimeError):
                    failure = watch.failure(self._processes, self.dataset.name)  # type: ignore[attr-defined]
                    if failure is None:
                        raise
                if failure or isinstance(batch, UserError):
                    self._iterator = None
                    del batches  # which ends the other processes
                    raise failure or batch
                yield batch

    def _begun(self) -> Iterator[Any]:
        """The iterator of torch without its handler of SIGCHLD: that raises wherever the main thread is.

        A process that is gone is found when its batch is wanted, by torch's look at all of them every five
        seconds.
        """
        handler, others = signal.getsignal(signal.SIGCHLD), set(active_children())
        batches = super().__iter__()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)
        if begun := set(active_children()) - others:
            self._processes[:] = begun
        return batches
