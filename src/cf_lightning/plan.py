"""The plan of a run: which artifacts it needs, which are there, what is wrong, and their making."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cf_lightning.config import build
from cf_lightning.data.index import Index
from cf_lightning.data.source import Source
from cf_lightning.errors import ConfigError, DataError, StoreError, UserError
from cf_lightning.keys import artifact_key, canonical, class_version, digest
from cf_lightning.stages.base import Stage
from cf_lightning.store import Store, explained

if TYPE_CHECKING:
    from cf_lightning.console import Console


RESIZE = "cf_lightning.stages.resized.Resize"


@dataclass
class Step:
    """One artifact of the plan.

    Attributes:
        stage: the folder's name in the store: index, pretrain, extract, ...
        key: the artifact's identity.
        node: the stage's resolved configuration.
        inputs: the steps whose artifacts it reads, by the name that ``run`` knows them by.
        index: the listing itself, where the step is an index or stands for one.
        title: what it is, for people.
        manifest: of the finished artifact; ``None`` as long as there is none.
        cached: it was there already.
        view: in which its readers see it, where the artifact knows none: that of resized images.
    """

    stage: str
    key: str
    node: dict[str, Any]
    inputs: dict[str, "Step"] = field(default_factory=dict)
    index: Index | None = None
    title: str = ""
    manifest: dict[str, Any] | None = None
    cached: bool = False
    view: Any = None
    _built: Stage | None = None

    @property
    def meaning(self) -> str:
        """What enters the keys of all that is made of it."""
        return self.key if self.view is None else digest([self.key, self.view])

    @property
    def seconds(self) -> float:
        """What the making of the finished artifact took."""
        return float(self.manifest["seconds"]) if self.manifest else 0.0

    def built(self) -> Stage:
        """The stage object, made once."""
        if self._built is None:
            self._built = build(self.node, self.stage)
        assert self._built is not None
        return self._built

    def indexes(self) -> dict[str, Index]:
        """The listings among the inputs."""
        return {name: step.index for name, step in self.inputs.items() if step.index is not None}


class Plan:
    """Steps in the order in which they can run; nothing runs before everything has been checked.

    Args:
        store: of their artifacts.
        runtime: the node of the steps that are planned here.
    """

    def __init__(self, store: Store, runtime: dict[str, Any] | None = None) -> None:
        self.store, self.runtime = store, runtime or {}
        self.steps: list[Step] = []

    def index(self, node: dict[str, Any], title: str) -> Step:
        """List a source now; its content is its key.

        The key holds the view too, for it is part of what every reader of the data sees. Where the source has
        a cache, the resized images stand for the listing; they are the same for every view.
        """
        source = build(node, title)
        if not isinstance(source, Source):
            raise ConfigError(f"{title}._target_={node['_target_']}: not a source of images or videos")
        try:
            index = source.index()
        except DataError as error:
            raise DataError(f"{title}: {error}") from error
        content = [index.fingerprint, class_version(node["_target_"])]
        view = canonical(source.view.model_dump())
        if source.cache is None:
            return self._add(Step("index", digest([*content, view]), node, {}, index, title))
        listing = self._add(Step("index", digest(content), node, {}, index, title))
        resize = {"_target_": RESIZE, **source.cache.model_dump(), "data": node, "runtime": self.runtime}
        what = f"{title}, resized to {source.cache.short_side} px"
        resized = self.add("resized", resize, what, data=listing)
        return replace(resized, index=index, view=view)

    def add(self, stage: str, node: dict[str, Any], title: str, **inputs: Step) -> Step:
        """Plan the artifact that ``node`` makes of ``inputs``."""
        key = artifact_key(node, {name: step.meaning for name, step in inputs.items()})
        return self._add(Step(stage, key, node, inputs, None, title))

    def _add(self, step: Step) -> Step:
        for known in self.steps:
            if (known.stage, known.key) == (step.stage, step.key):
                return known
        self._look_up(step)
        self.steps.append(step)
        return step

    def _look_up(self, step: Step) -> None:
        """Find the step's artifact in the store, if it is there."""
        step.manifest = self.store.manifest(step.stage, step.key)
        step.cached = step.manifest is not None

    def missing(self) -> list[Step]:
        """The steps that have to run."""
        return [step for step in self.steps if not step.cached]

    def check(self) -> None:
        """Find what is wrong in any step, and whether the disk has room, before the first one runs."""
        for step in self.steps:
            if step.index is None:
                self._check(step)
        if self.missing():
            self.store.test()
            needed = sum(self.disk_bytes(step) or 0 for step in self.missing())
            free = shutil.disk_usage(self.store.root).free
            if needed > free:
                raise StoreError(
                    f"runtime.store={self.store.root}: the run needs {needed / 2**20:,.0f} MiB and "
                    f"{free / 2**20:,.0f} MiB are free; make room or set runtime.store=FOLDER"
                )

    def _check(self, step: Step) -> None:
        with _named(step):
            stage, indexes = step.built(), step.indexes()
            if not step.cached:  # else it was another machine's business
                for index in indexes.values():
                    stage.check_machine(index)
            stage.check(**indexes)

    def disk_bytes(self, step: Step) -> int | None:
        """What a step's artifact takes on disk, or will take; ``None`` where it is not known."""
        if step.manifest is not None:
            return sum(int(file["bytes"]) for file in step.manifest["files"].values())
        if step.index is not None:
            return int(step.index.table.nbytes)
        return step.built().disk_bytes(**step.indexes())

    def operations(self) -> float:
        """Floating-point operations of what has to run, as far as the stages know them."""
        steps = [step for step in self.missing() if step.index is None or step.inputs]
        return sum(step.built().operations(**step.indexes()) or 0.0 for step in steps)

    def run(self, console: "Console") -> None:
        """Make what is missing, in order, with a line for each finished step."""
        for step in self.steps:
            if not step.cached:
                with console.running(step):
                    self._make(step, console.note)
            console.step(step, self.store.root)

    def _make(self, step: Step, note: Callable[[str], None]) -> None:
        from cf_lightning.execution import execute

        for used in step.inputs.values():
            self.store.verify(used.stage, used.key)
        with self.store.lock(step.stage, step.key, note):
            self._look_up(step)
            if step.cached:  # another run has made it meanwhile
                return
            start = time.monotonic()
            with _named(step), explained(self.store.root):
                made_by = execute(step, self.store)
            seconds = round(time.monotonic() - start, 2)
            inputs = {name: f"{used.stage}/{used.key}" for name, used in step.inputs.items()}
            whole = {"title": step.title, "seconds": seconds, "inputs": inputs, **made_by}
            step.manifest = self.store.publish(step.stage, step.key, whole)

    def folder(self, step: Step) -> Path:
        """Where a finished step's artifact lies."""
        return self.store.path(step.stage, step.key)


@contextmanager
def _named(step: Step) -> Iterator[None]:
    """A user's error says of which step it is."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{step.stage} ({step.title}): {error}") from error
