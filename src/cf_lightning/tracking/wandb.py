"""Weights & Biases: one run for each stage, grouped by experiment."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PrivateAttr

from cf_lightning.runtime import Runtime
from cf_lightning.tracking.base import Tracker

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


class WandbTracker(Tracker):
    """W&B runs with job type = stage and group = experiment.

    The run's id is drawn once and kept in the partial folder: a resumed stage resumes its run, and a
    stage done anew has a new one.

    Attributes:
        project: W&B project.
        entity: user or team; null is the key's own.
        mode: ``auto`` is online with an API key and offline without (``wandb sync`` later).
    """

    project: str = "cf_lightning"
    entity: str | None = None
    mode: Literal["auto", "online", "offline"] = "auto"

    _runs: list[Any] = PrivateAttr(default_factory=list)

    @contextmanager
    def run(self, stage: str, out: Path, runtime: Runtime, config: dict[str, Any]) -> Iterator[None]:
        """Open the stage's run, log its facts, and finish it with its exit code in any case."""
        import wandb

        id_file = out / "wandb_id.txt"
        if not id_file.exists():
            id_file.write_text(uuid.uuid4().hex[:8])
        Path(runtime.run_dir).mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self._mode(),
            id=id_file.read_text(),
            resume="allow",
            group=runtime.experiment,
            job_type=stage,
            name=f"{stage}-{out.stem[:8]}",
            dir=runtime.run_dir,
            config=config,
        )
        self._runs.append(run)
        failed = 1
        try:
            yield
            facts = out / "facts.json"
            if facts.exists():
                run.summary.update(json.loads(facts.read_text()))
            failed = 0
        finally:
            self._runs.pop()
            run.finish(exit_code=failed)

    def lightning(self) -> "Logger | bool":
        """A ``WandbLogger`` on the open run."""
        if not self._runs:
            return False
        from lightning.pytorch.loggers import WandbLogger

        return WandbLogger(experiment=self._runs[-1])

    def show(
        self, numbers: dict[str, Any], tables: dict[str, list[dict[str, Any]]], pictures: dict[str, Path]
    ) -> None:
        """Numbers go to the summary, tables to ``wandb.Table``, pictures to ``wandb.Image``."""
        if not self._runs:
            return
        import wandb
        from PIL import Image

        def cell(value: Any) -> Any:
            return wandb.Image(value) if isinstance(value, Image.Image) else value

        run = self._runs[-1]
        run.summary.update(numbers)
        shown: dict[str, Any] = {name: wandb.Image(str(file)) for name, file in pictures.items()}
        for name, rows in tables.items():
            data = [[cell(value) for value in row.values()] for row in rows]
            shown[name] = wandb.Table(columns=list(rows[0]), data=data)
        run.log(shown)

    def _mode(self) -> Literal["online", "offline"]:
        if self.mode != "auto":
            return self.mode
        has_key = bool(os.environ.get("WANDB_API_KEY")) or self._netrc_has_key()
        return "online" if has_key else "offline"

    def _netrc_has_key(self) -> bool:
        import netrc

        try:
            return netrc.netrc().authenticators("api.wandb.ai") is not None
        except (OSError, netrc.NetrcParseError):
            return False
