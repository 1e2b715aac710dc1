"""What a machine does to a run: a full or read-only disk, a store that goes, wild clocks, a second driver."""

import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

from case import Case, Outcome
from kills import completed
from small_run import PATIENCE, Undisturbed, table, undisturbed
from traces import left_behind, unfinished

DISK = "64m"  # a small run needs a twentieth of it
# before anything else is imported: every call is a day or so from the one before
JUMPING = """
import random, time
time.time = lambda true=time.time: true() + 86400 * random.uniform(-1, 1)
"""


def cases() -> Iterator[Case]:
    """Those of a disk only where this user may mount one."""
    if may_mount():
        for number in range(15):
            yield Case("disk full", str(number), partial(on_a_disk, fill, "disk is full", number))
        for number in range(8):
            yield Case("disk read-only", str(number), partial(on_a_disk, freeze, "cannot be written", number))
    for number in range(8):
        yield Case("store deleted", str(number), partial(deleted, number))
    for number in range(4):
        yield Case("clock jumps", str(number), clock_jumps)
    yield Case("clock jumps", "times of files", times_of_files)
    for number in range(4):
        yield Case("two drivers", str(number), partial(two_drivers, number, ()))
    if may("unshare", "--net", "--uts", "true"):
        apart = ("unshare", "--net", "--uts")
        yield Case("two drivers", "in namespaces of their own", partial(two_drivers, 0, apart))


Hurt = Callable[[Path, "subprocess.Popen[str]"], None]


def on_a_disk(hurt: Hurt, message: str, number: int, folder: Path) -> Outcome:
    """The store on a disk of its own, to which something happens at a random time."""
    twin = undisturbed("images", 1)
    when = random.Random(f"{message} {number}").uniform(0.2, 0.9) * twin.seconds
    with disk(folder / "store"):
        run = twin.run.start(folder)
        harm = threading.Thread(target=after, args=[when, run, partial(hurt, folder / "store")])
        harm.start()
        outcome = ended(run, folder, message, f"after {when:.1f} s")
        harm.join()
        subprocess.run(["mount", "-o", "remount,rw", str(folder / "store")], check=True)
        (folder / "store" / "ballast").unlink(missing_ok=True)
        return completed(twin, folder, outcome.note) if outcome.survived else outcome


def deleted(number: int, folder: Path) -> Outcome:
    """Somebody removes the whole store at a random time."""
    twin = undisturbed("images", 1)
    when = random.Random(f"deleted {number}").uniform(0.2, 0.9) * twin.seconds
    run = twin.run.start(folder)
    remove = partial(shutil.rmtree, folder / "store", ignore_errors=True)
    harm = threading.Thread(target=after, args=[when, run, lambda _: remove()])
    harm.start()
    outcome = ended(run, folder, "is gone", f"after {when:.1f} s")
    harm.join()
    return completed(twin, folder, outcome.note) if outcome.survived else outcome


def ended(run: "subprocess.Popen[str]", folder: Path, message: str, told: str) -> Outcome:
    """The hurt run itself has to end: with the table, or with one message and nothing half published."""
    try:
        code = run.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        run.kill()
        return Outcome(hangs=1, note=f"{told}: did not end")
    if left := left_behind(folder / "store", patience=30):
        return Outcome(hangs=1, note=f"{told}: left behind {left}")
    output = (folder / "output.txt").read_text()
    if code and (message not in output or "Traceback" in output):
        return Outcome(lost=1, note=f"{told}: no message of its own, but {output[-250:]}")
    if bad := unfinished(folder / "store"):
        return Outcome(lost=1, note=f"{told}: published and not whole: {bad}")
    return Outcome(note=f"{told}: {message if code else 'the run was over before'}")


def after(
    seconds: float, run: "subprocess.Popen[str]", hurt: Callable[["subprocess.Popen[str]"], None]
) -> None:
    """Unless the run is over by then."""
    try:
        run.wait(seconds)
    except subprocess.TimeoutExpired:
        hurt(run)


def fill(store: Path, run: "subprocess.Popen[str]") -> None:
    """Take all the room that there is, and what becomes free, as long as the run lasts."""
    with open(store / "ballast", "ab", buffering=0) as ballast:
        while run.poll() is None:
            try:
                ballast.write(bytes(4096))
            except OSError:
                time.sleep(0.002)


def freeze(store: Path, run: "subprocess.Popen[str]") -> None:
    """Mount it read-only: refused as long as a file is open for writing."""
    line = ["mount", "-o", "remount,ro", str(store)]
    while run.poll() is None and subprocess.run(line, stderr=subprocess.DEVNULL, check=False).returncode:
        time.sleep(0.002)


def clock_jumps(folder: Path) -> Outcome:
    """In every process of the run."""
    twin = undisturbed("images", 1)
    (folder / "sitecustomize.py").write_text(JUMPING)
    code = twin.run.start(folder, PYTHONPATH=str(folder)).wait(PATIENCE)
    return same(twin, folder, code, "a day to and fro")


def times_of_files(folder: Path) -> Outcome:
    """Data and store from 1970 or from 2100 are what they were: nothing is made again."""
    twin = undisturbed("images", 1)
    shutil.copytree(twin.folder / "store", folder / "store")
    for root, seconds in ((twin.run.data, 0), (folder / "store", 4_102_444_800)):
        for file in root.rglob("*"):
            os.utime(file, (seconds, seconds))
    code = twin.run.start(folder).wait(PATIENCE)
    made_again = " ran " in (folder / "output.txt").read_text()
    return Outcome(lost=1, note="made again") if made_again else same(twin, folder, code, "1970 and 2100")


def two_drivers(number: int, apart: tuple[str, ...], folder: Path) -> Outcome:
    """The same command twice at about the same time on the same store."""
    twin, rng = undisturbed("images", 1), random.Random(number)
    runs = []
    for name in ("one", "other"):
        command = twin.run.command(folder, f"hydra.run.dir={folder / name / 'run'}")
        with open(folder / f"{name}.txt", "w") as output:
            runs.append(subprocess.Popen([*apart, *command], stdout=output, stderr=output, cwd=folder))
        time.sleep(rng.uniform(0, 4))
    codes = [run.wait(PATIENCE) for run in runs]
    for name, code in zip(("one", "other"), codes, strict=True):
        if code or table(folder / name) != table(twin.folder):
            return Outcome(lost=1, note=f"{name}: code {code}: {(folder / f'{name}.txt').read_text()[-200:]}")
    (folder / "one" / "run").rename(folder / "run")
    return same(twin, folder, 0, "both have the table")


def same(twin: Undisturbed, folder: Path, code: int, told: str) -> Outcome:
    """Whether a run ended as the undisturbed one."""
    if code:
        return Outcome(lost=1, note=f"{told}: code {code}, {(folder / 'output.txt').read_text()[-250:]}")
    difference = twin.differs(folder)
    return Outcome(lost=int(bool(difference)), note=f"{told} {difference}")


@contextmanager
def disk(place: Path) -> Iterator[None]:
    """A disk in memory at ``place``."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "torture", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@cache
def may_mount() -> bool:
    """In a namespace that ends with the command."""
    return os.geteuid() == 0 and may("unshare", "--mount", "mount", "-t", "tmpfs", "torture", "/mnt")


def may(*command: str) -> bool:
    """Whether a command succeeds here."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
