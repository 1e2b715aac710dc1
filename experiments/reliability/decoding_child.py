"""Decodes one file after the other, as the framework does, for a parent that survives whatever comes of it.

A line of JSON on stdin asks for a file; the answer is a line on stdout.
"""

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cf_lightning.data.clip_view import ClipView
from cf_lightning.data.dataset import SampleDataset
from cf_lightning.data.folder import FolderImages, FolderVideos
from cf_lightning.data.views import View
from cf_lightning.errors import DataError

LARGEST = 1_000_000  # values of an image that are handed over


def main() -> None:
    torch.set_num_threads(1)
    answers, sys.stdout = sys.stdout, sys.stderr
    for source in (FolderImages(root="embedded"), FolderVideos(root="embedded")):  # import what decodes
        source.pictures(source.index(), 0)
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        before, start = _memory("VmRSS"), time.monotonic()
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak
        answer = decode(**json.loads(line))
        answer |= {"seconds": time.monotonic() - start, "grew": _memory("VmHWM") - before}
        print(json.dumps(answer), file=answers, flush=True)


def decode(
    root: str, clip: bool, decoder: str, on_error: str, result: str, look: bool = True
) -> dict[str, Any]:
    """What was said of the only sample below a root, its row, and, where that is asked for, what it shows."""
    common: dict[str, Any] = {"root": root, "on_error": on_error, "holdout": 0}
    source: Any
    if clip:
        view = ClipView(resize=32, crop=32, frames=4, clips_per_video=3)
        source = FolderVideos(**common, view=view, decoder=decoder)
    else:
        source = FolderImages(**common, view=View(resize=36, crop=32))
    try:
        index = source.index()
        row = SampleDataset(source, index, index.no_targets())[0][2]
        if not look:
            return {"said": None, "row": row}
        if clip:
            with source.naming(index, 0), source.open(index, 0) as video:
                ends = video.frames(np.array([video.begin, video.end - 1e-3])).float()
            return {"said": None, "row": row, "grays": ends.mean((1, 2, 3)).tolist()}
        pixels = source.image(index, 0).permute(1, 2, 0).numpy()
    except DataError as error:
        return {"said": str(error), "row": None}
    if pixels.size <= LARGEST:
        np.save(result, pixels)
    return {"said": None, "row": row, "shape": pixels.shape, "range": [int(pixels.min()), int(pixels.max())]}


def _memory(what: str) -> int:
    """Bytes of this process."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) * 1024 if found else 0


if __name__ == "__main__":
    main()
