"""What a person sees while it runs: bars on a terminal, a summary, and plain lines in a log."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cf_lightning.clustering.watch import LiveWatch
from cf_lightning.console import Console
from cf_lightning.plan import Plan, Step
from cf_lightning.progress import RUNNING, progress_bar
from cf_lightning.store import Store
from cf_lightning.transfer.base import Protocol
from cf_lightning.transfer.knn import KNN
from cf_lightning.transfer.linear import LinearProbe
from cf_lightning.transfer.splits import Split

SHORT = ("+experiment=demo", "runtime.accelerator=cpu", "pretrain.epochs=1", "clusterfit.epochs=1")
SMALL = ("target=[species]", "contestant=[student]", "cluster/engine=lloyd")
STYLE = re.compile(r"\x1b\[[\d;]*m")
NOISE = "GPU available|Tip:|litlogger|Gloo|distributed_backend"
BARS = {
    "pretrain: teacher": r"images/s, .* left, epoch 1/1, loss \d+\.\d\d",
    "extract: features of the teacher": r"images/s, .* left",
    "cluster: .*64": r"it/s, .* left, \d+/\d+, inertia [\d.e+]+",
    "cluster_report: .*64": r"it/s, .* left, \d+/\d+, inertia [\d.e+]+",
    "clusterfit: .*": r"images/s, .* left, epoch 1/1, loss \d+\.\d\d",
    "target_features: student on species": r"images/s, .* left",
    "transfer: .*: linear": r"samples/s, .* left, epoch \d+/100",
    "transfer: .*: knn": r"samples/s, .* left",
}


def on_a_terminal(line: list[str], columns: int, folder: Path) -> str:
    """Everything that a program writes to a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment["TQDM_MININTERVAL"] = "0"  # every step is drawn
    process = subprocess.Popen(
        line, stdout=theirs, stderr=subprocess.PIPE, cwd=folder, env=environment, text=True
    )
    os.close(theirs)
    written = b""
    while part := _read(ours):
        written += part
    os.close(ours)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return written.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""


def left_over(written: str) -> list[str]:
    """The lines that stand on the terminal in the end."""
    lines = []
    for line in STYLE.sub("", written).replace("\r\n", "\n").split("\n"):
        shown = ""
        for text in line.split("\r"):
            text, erased = text.removeprefix("\x1b[K"), text.startswith("\x1b[K")
            shown = text + ("" if erased else shown[len(text) :])
        lines.append(shown)
    return lines


@contextmanager
def looked_at(columns: int = 80, label: str = "transfer: a title") -> Iterator[None]:
    """As the driver leaves the environment to a stage when somebody looks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RUNNING, label)
        patch.setenv("COLUMNS", str(columns))
        yield


@pytest.mark.slow
def test_bars_on_a_terminal_and_plain_lines_in_a_log(
    command: Callable[..., list[str]], cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    written = on_a_terminal(command(*SHORT, *SMALL), 80, tmp_path)
    drawn = STYLE.sub("", written).replace("\x1b[K", "")
    frames = re.split(r"[\r\n]+", drawn)
    assert "\x1b" not in drawn, "bars stay on one line"
    for name, numbers in BARS.items():
        assert any(re.fullmatch(rf"{name} +\d+% .*{numbers} *", frame) for frame in frames), name
    is_bar = [re.search(r"\d% .* left", frame) is not None for frame in frames]
    assert max(len(frame) for frame, bar in zip(frames, is_bar, strict=True) if bar) < 80
    assert "space: features of the teacher to cluster" in frames, "a stage without a bar is named, too"

    lines = left_over(written)
    made = [line for line in lines if re.match(r"\w+ +ran +[\d.]+ s  ", line)]
    assert len(made) == 11
    assert not [line for line in lines if " left" in line or line.startswith(("pretrain:", "transfer:"))]
    assert max(map(len, made)) <= 80

    again = (*SHORT, *SMALL, "contestant=[]")
    log = cli(*again, "clusterfit.seed=1")
    assert log.returncode == 0, log.stderr
    assert re.search(r"^clusterfit +ran ", log.stdout, re.MULTILINE)
    assert not set("\r\x1b") & set(log.stdout)
    assert not re.search(NOISE + "|it/s|images/s", log.stdout)
    assert max(map(len, log.stdout.splitlines())) <= 160
    assert not log.stderr

    with pytest.MonkeyPatch.context() as patch:  # as in a job of a sweep, whose driver has the terminal
        patch.setenv("COLUMNS", "80")
        piped = cli(*again, "clusterfit.seed=2", "runtime.devices=2", "runtime.progress=true")
    assert piped.returncode == 0, piped.stderr
    frames = re.split(r"[\r\n]+", piped.stdout.replace("\x1b[K", ""))
    bars = [frame for frame in frames if re.match(r"clusterfit: .* images/s, .* left, epoch 1/1", frame)]
    assert bars
    assert max(map(len, bars)) < 80
    assert not re.search(NOISE, piped.stdout)
    assert not piped.stderr


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_bar_fits_and_cuts_no_number(columns: int, capsys: pytest.CaptureFixture[str]) -> None:
    with looked_at(columns, "cluster: clusters of the features, k=30000"):
        with progress_bar(50, "it") as bar:
            bar.set_postfix_str("12/50, inertia 1.234e+06", refresh=False)
            bar.update(12)
            line = str(bar)
        assert len(line) < columns
        assert re.match(r"cluster: .*0 ", line), "the stage, and the end of its title"
        assert line.endswith("left, 12/50, inertia 1.234e+06" if columns > 60 else " left")
    assert "it/s" in capsys.readouterr().out


def test_bars_are_the_first_process_s_and_only_where_somebody_looks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def count() -> str:
        with progress_bar(10, "images") as bar:
            bar.update(10)
        watch = LiveWatch(3, [])
        watch.note("a note")
        time.sleep(0.2)  # tqdm draws at most ten times a second
        watch.iteration(1, 2.0)
        watch.close()
        return capsys.readouterr().out

    assert count() == ""
    with looked_at():
        assert "images/s" in (shown := count())
        assert "a note" in shown
        assert "1/3, inertia 2" in shown
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RANK", "1")
            assert count() == ""


@pytest.mark.parametrize("protocol", [LinearProbe(epochs=3, batch_size=32), KNN(k=5)])
def test_bars_change_no_number_of_a_probe(protocol: Protocol, capsys: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(3, size=300)
    features = (np.eye(3)[labels] + draw.normal(0, 0.5, (300, 3))).astype(np.float32)
    train, test = Split(np.arange(200), labels[:200]), Split(np.arange(200, 300), labels[200:])
    silent = protocol.evaluate(features, train, test, "cpu")
    assert capsys.readouterr().out == ""
    with looked_at():
        assert protocol.evaluate(features, train, test, "cpu") == silent
    frames = capsys.readouterr().out.split("\r")
    assert any(re.match(r"transfer: a title .* samples/s", frame) for frame in frames)


def planned(folder: Path) -> Plan:
    plan = Plan(Store(str(folder)))
    for stage, cached, seconds in (
        ("pretrain", True, 3000.0),
        ("cluster", False, 20.0),
        ("transfer", False, 4.0),
        ("transfer", True, 2.5),
        ("transfer", False, 6.0),
    ):
        facts = {"facts": {"top1": 12.3456, "top5": 45.6789}, "seconds": seconds}
        plan.steps.append(Step(stage, "0123456789", {}, {}, None, "student on [species]", facts, cached))
    return plan


def test_the_summary_s_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Console().summary(planned(tmp_path), 40.0)
    rows = [re.split(r" {2,}", line.strip()) for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert rows == [
        ["stage", "ran", "cached", "seconds", "share", "saved by the cache"],
        ["pretrain", "-", "1", "0.0 s", "0%", "3,000.0 s"],
        ["cluster", "1", "-", "20.0 s", "50%", "-"],
        ["transfer", "2", "1", "10.0 s", "25%", "2.5 s"],
        ["whole run", "3", "2", "40.0 s", "100%", "3,002.5 s"],
    ]


@pytest.mark.parametrize("columns", [60, 72, 80, 120, 160])
def test_a_stage_s_line_ends_with_a_whole_number(
    columns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        Console().step(planned(tmp_path).steps[1], Path("store"))
    (line,) = capsys.readouterr().out.splitlines()
    assert len(line) <= columns
    told = ["top1=12.35"] * (columns > 66) + ["top5=45.68"] * (columns > 78)
    assert line.split("student on [species]")[1].split() == told
    assert ("cluster/01234567" in line) == (columns >= 120)


def test_a_note_breaks_between_words_and_keeps_paths_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "/" + "long-folder/" * 20
    Console().note(f"{'word ' * 40}results in {path}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == path
    assert all(len(line) <= 160 for line in lines[:-1])
