"""Lightning's CSV logger: one folder of metrics for each stage, below the run's folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import PrivateAttr

from cf_lightning.runtime import Runtime
from cf_lightning.tracking.base import Tracker

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


class CSVTracker(Tracker):
    """``<run folder>/logs/<stage>-<key>/metrics.csv``; the whole curve is in the artifact's history.csv."""

    _place: list[Path] = PrivateAttr(default_factory=list)

    @contextmanager
    def run(
        self, stage: str, out: Path, runtime: Runtime, config: dict[str, Any], inputs: dict[str, Path]
    ) -> Iterator[None]:
        """Note where the stage's metrics go."""
        self._place.append(Path(runtime.run_dir) / "logs" / f"{stage}-{out.stem[:8]}")
        try:
            yield
        finally:
            self._place.pop()

    def lightning(self) -> "Logger | bool":
        """A ``CSVLogger``, which makes its folder when the first metric comes."""
        if not self._place:
            return False
        from lightning.pytorch.loggers import CSVLogger

        return CSVLogger(self._place[-1], name="", version="")
