"""One flipped bit in each file of each artifact of a finished run.

Then the same command again, on a copy of the store: all is cached, and nothing may come out that is not what
came out before; what nobody has read then, ``store verify`` has to find. And once more after what was made of
the artifact is gone: it has to be refused by name, and nothing new may be made of it.
"""

import atexit
import io
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from case import Case, Outcome
from composed import composed
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from cf_lightning.errors import UserError
from cf_lightning.pipeline import run
from cf_lightning.runs import Run, RunStep
from cf_lightning.store import Store
from cf_lightning.store.contents import Contents
from cf_lightning.store.verifying import verify

KIND = "bit flip"
COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}
SMALL = (  # every kind of artifact, of a network of four convolutions and a few dozen images
    *("+experiment=demo", "runtime.accelerator=cpu", "model.width=4", "pretrain=supervised", "logger=none"),
    *("data=folder", "data.holdout=0.2", "data.cache={short_side:36}", "cluster.k=4", "cluster/engine=lloyd"),
    *("pretrain.epochs=1", "pretrain.batch_size=8", "clusterfit.epochs=1", "clusterfit.batch_size=8"),
    *("cluster_report.stability=0", "cluster_report.gallery.clusters=4", "cluster_report.sheets.clusters=4"),
    *("curate=balanced", "curate.size=8", "clusterfit.relabel.nearest=2"),
    *("target=[folder]", "target.folder.test_share=0.25", "target.folder.view={resize:36,crop:32}"),
    *("contestant=[teacher,student,distillation]", "transfer=[knn,linear]"),
    *("transfer.knn.protocol.k=3", "transfer.linear.protocol.epochs=2"),
)


@dataclass(frozen=True)
class Undisturbed:
    """A finished run.

    Attributes:
        store: of its artifacts.
        record: of the run.
        results: as ``results.json`` has them.
        configure: the configuration for another store and run folder.
    """

    store: Path
    record: Run
    results: bytes
    configure: Callable[[Path, Path], DictConfig]


def cases() -> Iterator[Case]:
    for step in undisturbed().record.steps:
        folder = undisturbed().record.path(step)
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = str(file.relative_to(folder))
            yield Case(KIND, f"{step.stage} ({step.title}): {name}", partial(attempt, step, name))


@cache
def undisturbed() -> Undisturbed:
    folder = Path(tempfile.mkdtemp(prefix="undisturbed_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_images(folder / "images")

    def configure(store: Path, run_dir: Path) -> DictConfig:
        roots = [f"{key}.root={folder / 'images'}" for key in ("data", "target.folder")]
        cfg = composed(*SMALL, *roots, f"runtime.store={store}", f"runtime.run_dir={run_dir}")
        OmegaConf.resolve(cfg)
        return cfg

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        run(configure(folder / "store", folder / "run"))
    results = (folder / "run" / "results.json").read_bytes()
    return Undisturbed(folder / "store", Run.read(folder / "run"), results, configure)


def attempt(step: RunStep, name: str, folder: Path) -> Outcome:
    """Flip a bit and look at what comes of it."""
    store = Store(str(folder / "store"))
    shutil.copytree(undisturbed().store, store.root)
    artifact = f"{step.stage}/{step.key}"
    file = store.root / artifact / name
    flip(file, f"{step.stage} {step.title} {name}")
    if refused(store, folder / "cached", file):
        return Outcome(note="refused where all is cached")
    if not any(problem.startswith(str(file)) for _, problem in verify(store)):
        return Outcome(lost=1, note="read by nothing, and not found by store verify")
    readers = Contents(Store(str(undisturbed().store))).readers(artifact)
    for reader in readers:
        shutil.rmtree(store.root / reader)
    if readers and not refused(store, folder / "used", file):
        return Outcome(lost=1, note="something new was made of it")
    return Outcome(note="found by store verify" + (", refused where it is used" if readers else ""))


def refused(store: Store, run_dir: Path, file: Path) -> bool:
    """Whether the same command ends with a message that names the file; else its results are the same."""
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            run(undisturbed().configure(store.root, run_dir))
    except UserError as error:
        if "\n" in str(error) or str(file) not in str(error):
            raise ValueError(f"not one line that names {file}: {error}") from error
        return True
    results = (run_dir / "results.json").read_bytes()
    assert results == undisturbed().results, "other results"
    return False


def flip(file: Path, seed: str) -> None:
    """Flip one bit of a file; which one, its seed says. An empty file gets a byte."""
    content = bytearray(file.read_bytes() or b"\0")
    bit = random.Random(seed).randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def write_images(root: Path) -> None:
    """12 images of 40 px in each of three classes."""
    rng = np.random.default_rng(0)
    for name, rgb in COLOURS.items():
        (root / name).mkdir(parents=True)
        for number in range(12):
            pixels = np.clip(np.array(rgb) + rng.normal(0, 40, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
