"""Images and videos that are broken or odd, each decoded by the framework in a process of its own."""

import atexit
import json
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import broken_clips
import broken_images
import clip_bombs
import image_bombs
import numpy as np
import odd_folders
import odd_names
from broken_clips import Clip
from broken_images import RGB, Picture
from case import Case, Outcome

from cf_lightning.data.video.opening import why_no_torchcodec

SECONDS = 10.0  # that one file may take
GROWTH = 10**9  # bytes that it may take


def of_images(pictures: Iterator[Picture]) -> Iterator[Case]:
    for picture in pictures:
        yield Case("bad media", f"image: {picture.name!a}", partial(try_image, picture))


def of_clips(clips: list[Clip]) -> Iterator[Case]:
    for decoder in ["pyav", *([] if why_no_torchcodec() else ["torchcodec"])]:
        for clip in clips:
            yield Case("bad media", f"{decoder}: {clip.name}", partial(try_clip, decoder, clip))


def of_folders() -> Iterator[Case]:
    """What else may lie where a picture is looked for: each is named, and none is waited for."""
    for make in odd_folders.MAKERS:
        yield Case("bad media", f"folder: {make.__name__}", partial(try_folder, make))


def try_image(picture: Picture, folder: Path) -> Outcome:
    def right(answer: dict[str, Any]) -> bool:
        assert picture.pixels is not None
        if answer["shape"] != list(picture.pixels.shape):
            return False
        low, high = (
            int(picture.pixels.min()) - picture.tolerance,
            int(picture.pixels.max()) + picture.tolerance,
        )
        if not low <= answer["range"][0] <= answer["range"][1] <= high:
            return False
        file = folder / "result.npy"
        return (
            not file.exists()
            or int(np.abs(np.load(file) - picture.pixels.astype(int)).max()) <= picture.tolerance
        )

    save(folder, picture)
    return judge(folder, picture, right, False, "")


def try_clip(decoder: str, clip: Clip, folder: Path) -> Outcome:
    def right(answer: dict[str, Any]) -> bool:
        assert clip.grays is not None
        return bool(np.allclose(answer["grays"], clip.grays, atol=8))

    save(folder, clip)
    return judge(folder, clip, right, True, decoder)


def save(folder: Path, file: Picture | Clip) -> None:
    path = folder / "root" / "class" / file.name
    path.parent.mkdir(parents=True)
    path.write_bytes(file.content if isinstance(file.content, bytes) else file.content())


def judge(
    folder: Path, file: Picture | Clip, right: Callable[[dict[str, Any]], bool], clip: bool, decoder: str
) -> Outcome:
    """It shows what it should, or is refused by name where it may be, or left out where that is asked for."""
    ask = {
        "root": str(folder / "root"),
        "clip": clip,
        "decoder": decoder,
        "result": str(folder / "result.npy"),
    }
    failed: str | None = None
    known = (file.pixels if isinstance(file, Picture) else file.grays) is not None
    for on_error in ("fail", "skip"):
        look = on_error == "fail" and known
        answer = child().ask({**ask, "on_error": on_error, "look": look})
        if isinstance(answer, Outcome):
            return answer
        if answer["grew"] > GROWTH:
            return Outcome(lost=1, note=f"{on_error}: grew by {answer['grew'] / 1e6:.0f} MB")
        if on_error == "fail":
            failed = said = answer["said"]
            if said is None and look and not right(answer):
                return Outcome(wrong_label=1, note=f"shows something else: {answer}")
            if said is not None and ("\n" in said or said_name(file.name) not in said):
                return Outcome(lost=1, note=f"is not named in one line: {said}")
            if said is not None and not file.broken and "data.decoder" not in said:
                return Outcome(lost=1, note=f"is refused: {said}")
        elif answer["row"] != (0 if failed is None else -1) and "rename it" not in (failed or ""):
            return Outcome(lost=1, note=f"fail: {failed}; skip: {answer}")
    return Outcome(note=failed or "")


def said_name(name: str) -> str:
    """As messages have it."""
    return name if name.isprintable() else ascii(name)[1:-1]


def try_folder(make: Callable[[Path], str | None], folder: Path) -> Outcome:
    """A good picture and something else beside it; ``make`` says what a message has to have."""
    save(folder, Picture("good.png", broken_images.encode(RGB, "PNG"), RGB))
    expected = make(folder / "root" / "class")
    if expected is None:
        return Outcome(note="cannot be made here")
    (folder / "root" / "class" / "good.png").unlink()
    ask = {"root": str(folder / "root"), "clip": False, "decoder": "", "result": str(folder / "result.npy")}
    answer = child().ask({**ask, "on_error": "fail"})
    if isinstance(answer, Outcome):
        return answer
    if answer["grew"] > GROWTH or answer["said"] is None or expected not in answer["said"]:
        return Outcome(lost=1, note=str(answer))
    return Outcome(note=answer["said"])


PARTS: dict[str, Callable[[], Iterator[Case]]] = {
    "images": lambda: of_images(chain(broken_images.pictures(), odd_names.named())),
    "clips": lambda: of_clips(list(broken_clips.clips())),
    "bombs": lambda: chain(of_images(image_bombs.bombs()), of_clips(list(clip_bombs.bombs()))),
    "folders": lambda: of_folders(),
}


def cases() -> Iterator[Case]:
    """Every file by every decoder."""
    return chain.from_iterable(part() for part in PARTS.values())


class Child:
    """The process that decodes; one that crashes or hangs is replaced."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, what: dict[str, Any]) -> dict[str, Any] | Outcome:
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, str(Path(__file__).with_name("decoding_child.py"))]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            self.answer(60)  # it is ready
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what).encode() + b"\n")
        self.process.stdin.flush()
        return self.answer(SECONDS)

    def answer(self, seconds: float) -> dict[str, Any] | Outcome:
        assert self.process is not None
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            self.end()
            return Outcome(hangs=1, note=f"no answer in {seconds:g} s")
        line = self.process.stdout.readline()
        if not line:
            return Outcome(lost=1, note=f"the process died, code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@cache
def child() -> Child:
    """The one of this process, which ends with it."""
    one = Child()
    atexit.register(one.end)
    return one
