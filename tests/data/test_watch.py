"""A loader process that dies or hangs ends the run in one message, with the file's name and what to do."""

import ctypes
import multiprocessing
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from cf_lightning.data import watch
from cf_lightning.data.folder import FolderImages
from cf_lightning.data.index import Index
from cf_lightning.data.module import SampleDataModule
from cf_lightning.data.views import Augmentation, View
from cf_lightning.errors import UserError
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.optimization import SGD
from cf_lightning.runtime import Runtime
from cf_lightning.stages.base import Stage
from cf_lightning.stages.extract import Extract
from cf_lightning.stages.resized import Resize
from cf_lightning.stages.train import Train
from cf_lightning.tasks.supervised import Supervised

if TYPE_CHECKING:
    from cf_lightning.data.picture import Picture

VIEW = View(resize=18, crop=16)
BAD = 7  # the row that does what ``Trap.does`` says


class Trap(FolderImages):
    """Images of which one is not to be had."""

    does: str = "hang"

    def sample(self, index: Index, row: int, random: bool = False) -> "Picture":
        if row == BAD or self.does == "be slow":
            (DOES | HARMLESS)[self.does]()
        return super().sample(index, row, random)


def hang_in_a_decoder() -> None:
    """Endlessly, and no other thread of the process has its turn: nobody answers for it."""
    ctypes.PyDLL(None).pause()


DOES: dict[str, Callable[[], object]] = {
    "hang": lambda: time.sleep(1000),
    "hang in a decoder": hang_in_a_decoder,
    "be killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda: os._exit(3),
}
HARMLESS: dict[str, Callable[[], object]] = {"be slow": lambda: time.sleep(0.2), "nothing": lambda: None}
SAID = {
    "hang": r"stood still at .*green/001\.png for 1 s and was ended; .*runtime\.loader_timeout",
    "hang in a decoder": r"stood still at .*green/001\.png for 1 s and was ended; .*runtime\.loader_timeout",
    "be killed": r"died at .*green/001\.png \(signal 9: out of memory\?\); .*runtime\.workers=",
    "crash": r"died at .*green/001\.png \(signal 11, .*: a decoder has crashed\); mend or remove the file",
    "exit": r"died at .*green/001\.png \(exit code 3\)",
}


@pytest.fixture(autouse=True)
def _soon_and_nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(watch, "TICK", 0.25)
    look = _MultiProcessingDataLoaderIter._try_get_data
    monkeypatch.setattr(look, "__defaults__", (0.25,))  # torch's five seconds between looks at its processes
    before, handler = set(multiprocessing.active_children()), signal.getsignal(signal.SIGCHLD)
    yield
    assert signal.getsignal(signal.SIGCHLD) == handler
    assert not set(multiprocessing.active_children()) - before


@pytest.fixture
def trap(image_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., Trap]:
    """Images, and the folder of their index."""
    root = str(image_folder(per_class=6))

    def make(does: str, **settings: Any) -> Trap:
        source = Trap(root=root, view=VIEW, holdout=0, does=does, **settings)
        (tmp_path / "index").mkdir()
        source.index().write(tmp_path / "index")
        return source

    return make


def run(stage: Stage, tmp_path: Path, message: str) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=message) as caught:
        stage.run(tmp_path / "out", data=tmp_path / "index")
    assert "\n" not in str(caught.value)


def runtime(workers: int) -> Runtime:
    return Runtime(accelerator="cpu", workers=workers, loader_timeout=1)


@pytest.mark.parametrize(
    ("does", "workers"),
    [("hang", 2), ("hang in a decoder", 1), ("be killed", 1), ("be killed", 2), ("crash", 2), ("exit", 1)],
)
def test_extraction(does: str, workers: int, trap: Callable[..., Trap], tmp_path: Path) -> None:
    stage = Extract(data=trap(does), model=TinyTrunk(width=4), batch_size=3, runtime=runtime(workers))
    run(stage, tmp_path, SAID[does])


@pytest.mark.parametrize(("does", "workers"), [("hang", 1), ("be killed", 2)])
def test_training(does: str, workers: int, trap: Callable[..., Trap], tmp_path: Path) -> None:
    stage = Train(
        data=trap(does),
        model=TinyTrunk(width=4),
        task=Supervised(),
        optimization=SGD(),
        augmentation=Augmentation(),
        epochs=1,
        batch_size=6,
        runtime=runtime(workers),
    )
    run(stage, tmp_path, SAID[does])


@pytest.mark.parametrize(("does", "workers"), [("hang", 2), ("be killed", 1)])
def test_resizing(does: str, workers: int, trap: Callable[..., Trap], tmp_path: Path) -> None:
    source = trap(does)
    run(Resize(data=source, short_side=16, runtime=runtime(workers)), tmp_path, SAID[does])


def test_a_process_that_dies_while_nothing_is_waited_for(trap: Callable[..., Trap]) -> None:
    """torch would raise in the middle of a step, or of the writing of a checkpoint."""
    data = SampleDataModule(trap("be killed"), batch_size=1, workers=1)
    batches = iter(data.predict_dataloader())
    for _ in range(BAD - 1):  # two are made ahead
        next(batches)
    (process,) = multiprocessing.active_children()
    process.join(20)
    assert not process.is_alive()
    with pytest.raises(UserError, match=SAID["be killed"]):
        next(batches)


def test_a_process_that_dies_between_two_epochs(trap: Callable[..., Trap]) -> None:
    data = SampleDataModule(trap("nothing"), batch_size=6, workers=2)
    loader = data.predict_dataloader()
    assert len(list(loader)) == 3
    process, _ = multiprocessing.active_children()
    process.kill()
    process.join()
    with pytest.raises(UserError, match=r"died between two batches \(signal 9: .*runtime\.workers=1$"):
        list(loader)


def test_what_takes_long_is_no_hang(trap: Callable[..., Trap]) -> None:
    """Patience is for a sample, not for a batch, nor for the one who waits for it."""
    data = SampleDataModule(trap("be slow"), batch_size=9, workers=1, patience=1)
    rows = [row for _, _, index in data.predict_dataloader() for row in index.tolist() if not time.sleep(0.1)]
    assert rows == list(range(18))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_file_brings_no_traceback(workers: int, trap: Callable[..., Trap], tmp_path: Path) -> None:
    source = trap("nothing")
    (Path(source.root or "") / "green" / "001.png").write_bytes(b"damaged")
    stage = Extract(data=source, model=TinyTrunk(width=4), batch_size=3, runtime=runtime(workers))
    run(stage, tmp_path, r"green/001\.png cannot be decoded \(not a JPEG.*data\.on_error=skip$")


@pytest.mark.slow
def test_the_command_line(
    command: Callable[..., list[str]], image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    line = command(
        *("+experiment=demo", "data=folder", "pretrain=supervised", "cluster.k=4", "pretrain.batch_size=8"),
        *(f"data.root={image_folder(per_class=10)}", "security.allow=[test_watch]"),
        *("data._target_=test_watch.Trap", "+data.does=be killed"),
        *("data.view.resize=36", "data.view.crop=32", "clusterfit.batch_size=8", "runtime.workers=2"),
        "runtime.accelerator=cpu",
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300)
    assert done.returncode == 1
    message = r"^pretrain \(teacher\): a loader process died at root=.*\.png \(signal 9: out of memory\?\)"
    assert re.search(message, done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    left = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]
    assert not left
