"""The small run that is broken: its data, its command, and what it leaves when nobody disturbs it."""

import atexit
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Literal

import av
import numpy as np
from PIL import Image

Medium = Literal["images", "clips"]

COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40), "yellow": (220, 210, 40)}
PATIENCE = 300  # seconds; a run of some ten that is not over by then hangs
COMMON = (
    *("pretrain.epochs=3", "clusterfit.epochs=3", "pretrain.batch_size=8", "clusterfit.batch_size=8"),
    *("extract.batch_size=8", "target_features.batch_size=8", "cluster.k=6", "model.width=4"),
    *("contestant=[student]", "transfer=[linear]", "transfer.linear.protocol.epochs=20"),
    *("cluster_report.sheets.clusters=4", "cluster_report.gallery.clusters=4"),
    *("runtime.accelerator=cpu", "runtime.workers=1", "runtime.checkpoint_minutes=0.0005"),
)
VIEW = ("view.resize=24", "view.crop=20")
OWN: dict[Medium, tuple[str, ...]] = {
    "images": ("target.folder.test_share=0.3",),
    "clips": ("target.actions.manifest=clips.csv", "model=tiny_video", "data.view.frames=4"),
}


@dataclass(frozen=True)
class SmallRun:
    """A command line but for its places.

    Attributes:
        medium: what its samples are.
        processes: of each stage.
        data: the root of its samples.
    """

    medium: Medium
    processes: int
    data: Path

    def command(self, folder: Path, *overrides: str) -> list[str]:
        """The run whose store and results lie in ``folder``."""
        source = "folder" if self.medium == "images" else "video_folder"
        experiment = "demo" if self.medium == "images" else "hashtag_video_r2plus1d34"
        engine = "faiss" if self.processes == 1 else "lloyd"  # which works in all processes
        target = "folder" if self.medium == "images" else "actions"
        seen = [f"{name}.{setting}" for name in ("data", f"target.{target}") for setting in VIEW]
        return [
            *(sys.executable, "-m", "cf_lightning", f"+experiment={experiment}", f"data={source}"),
            *("pretrain=supervised", f"cluster/engine={engine}", f"target=[{target}]", *COMMON, *seen),
            *(f"data.root={self.data}", f"target.{target}.root={self.data}", *OWN[self.medium]),
            *(f"runtime.devices={self.processes}", f"runtime.store={folder / 'store'}"),
            *(f"hydra.run.dir={folder / 'run'}", *overrides),
        ]

    def start(self, folder: Path, *overrides: str, **environment: str) -> "subprocess.Popen[str]":
        """Begin the run; its output goes to ``output.txt``."""
        with open(folder / "output.txt", "w") as output:
            return subprocess.Popen(
                self.command(folder, *overrides),
                cwd=folder,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},  # threads of busy neighbours spin
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody disturbed.

    Attributes:
        run: what was run.
        folder: of its store and its results.
        seconds: that it took.
    """

    run: SmallRun
    folder: Path
    seconds: float

    def differs(self, folder: Path) -> str:
        """What another run's table and artifacts have that this one's have not; empty if nothing."""
        if table(folder) != table(self.folder):
            return "another table"
        ours, theirs = arrays(self.folder / "store"), arrays(folder / "store")
        other = [name for name in ours if ours[name] != theirs.get(name)]
        return f"other bytes: {', '.join(other)}" if other else ""


@cache
def undisturbed(medium: Medium, processes: int) -> Undisturbed:
    """Run it once in this process."""
    folder = Path(tempfile.mkdtemp(prefix="torture_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    run = SmallRun(medium, processes, folder / "data")
    (make_images if medium == "images" else make_clips)(run.data)
    start = time.monotonic()
    code = run.start(folder).wait(PATIENCE)
    if code:
        raise RuntimeError((folder / "output.txt").read_text())
    return Undisturbed(run, folder, time.monotonic() - start)


def make_images(root: Path, per_class: int = 40) -> None:
    """``root/COLOUR/NUMBER.png`` of 24 px."""
    rng = np.random.default_rng(0)
    for colour, rgb in COLOURS.items():
        (root / colour).mkdir(parents=True)
        for number in range(per_class):
            pixels = np.clip(np.array(rgb) + rng.normal(0, 60, (24, 24, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(root / colour / f"{number:03d}.png")


def make_clips(root: Path, per_class: int = 10) -> None:
    """``root/COLOUR/NUMBER.mp4`` of eight frames of 32 px, and ``clips.csv``, which divides them."""
    rng, lines = np.random.default_rng(0), ["path,split,label"]
    for colour, rgb in COLOURS.items():
        (root / colour).mkdir(parents=True)
        for number in range(per_class):
            path = root / colour / f"{number:03d}.mp4"
            split = "train" if number < 0.7 * per_class else "test"
            lines.append(f"{path.relative_to(root)},{split},{colour}")
            with av.open(str(path), "w") as container:
                stream = container.add_stream("mpeg4", rate=Fraction(8))
                stream.width = stream.height = 32
                for _ in range(8):
                    pixels = np.clip(np.array(rgb) + rng.normal(0, 60, (32, 32, 3)), 0, 255)
                    frame = av.VideoFrame.from_ndarray(pixels.astype(np.uint8), "rgb24")
                    container.mux(stream.encode(frame))
                container.mux(stream.encode())
    (root / "clips.csv").write_text("\n".join(lines) + "\n")


def table(folder: Path) -> list[dict[str, str]]:
    """The rows of ``results.csv`` without what may differ: the seconds."""
    with open(folder / "run" / "results.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def arrays(store: Path) -> dict[str, bytes]:
    """Every array, weight, score and listing that is published."""
    endings = (".npy", ".safetensors", ".parquet", "metrics.json")
    files = sorted(file for file in store.rglob("*") if file.name.endswith(endings))
    published = [file for file in files if ".partial" not in str(file.relative_to(store))]
    return {str(file.relative_to(store)): file.read_bytes() for file in published}
