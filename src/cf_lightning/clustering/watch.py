"""What a person and the loggers see of a running k-means."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cf_lightning.clustering.base import Watch
from cf_lightning.progress import progress_bar
from cf_lightning.runtime import Runtime


class LiveWatch(Watch):
    """A progress bar and a curve.

    Args:
        iterations: at most.
        loggers: Lightning's.
        show: the bar outside of the pipeline, too.
        metric: the curve's name.
        first_step: the logged step before the first iteration.
    """

    def __init__(
        self,
        iterations: int,
        loggers: Sequence[Any],
        show: bool = False,
        metric: str = "kmeans/inertia",
        first_step: int = 0,
    ) -> None:
        self._iterations, self._loggers = iterations, loggers
        self._metric, self._first_step = metric, first_step
        self._bar = progress_bar(iterations, "it", label="k-means" if show else None)

    def note(self, line: str) -> None:
        """Show it in the bar's place until the first iteration is done."""
        self._bar.say(line)

    def iteration(self, number: int, inertia: float) -> None:
        """Move the bar on and log the inertia."""
        self._bar.set_postfix_str(f"{number}/{self._iterations}, inertia {inertia:.4g}", refresh=False)
        self._bar.update()
        for logger in self._loggers:
            logger.log_metrics({self._metric: inertia}, step=self._first_step + number)

    def close(self) -> None:
        """End the bar's line and write what the loggers have buffered."""
        self._bar.close()
        for logger in self._loggers:
            logger.save()


@contextmanager
def watched(runtime: Runtime, iterations: int) -> Iterator[Watch]:
    """A watch for a stage; it is silent on all ranks but the first."""
    if os.environ.get("RANK", "0") != "0":
        yield Watch()
        return
    logger = runtime.logger.lightning() if runtime.logger else None
    watch = LiveWatch(iterations, [logger] if logger else [])
    try:
        yield watch
    finally:
        watch.close()
