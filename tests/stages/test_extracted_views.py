"""The features of a video's clips: by hand, skipped, in two processes, and after a kill."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cf_lightning.console import Console
from cf_lightning.data.folder import FolderVideos
from cf_lightning.data.index import Index
from cf_lightning.data.video_source import VideoSource
from cf_lightning.models.tiny_video import TinyVideoTrunk
from cf_lightning.plan import Plan
from cf_lightning.rows import read_rows
from cf_lightning.runtime import Runtime
from cf_lightning.stages.extract import Extract
from cf_lightning.store import Store
from videos import number_of, numbered_frames, write_video

NAMES = [f"{label}/{number}.mp4" for label in ("left", "right") for number in range(4)]
VIEW = {"resize": 32, "crop": 24, "frames": 3, "fps": 10.0, "clips_per_video": 2}
MODEL = TinyVideoTrunk(width=2)
BATCH = 3  # so that the last one of 8 videos is filled up


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Video n shows the numbers from 20 n on, 13 of them at ten a second."""
    for number, name in enumerate(NAMES):
        write_video(tmp_path / "videos" / name, numbered_frames(13, 32, 32, 20 * number))
    return tmp_path / "videos"


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """The artifact of a trunk."""
    (tmp_path / "trunk").mkdir()
    torch.manual_seed(1)
    MODEL.build().save(tmp_path / "trunk")
    return tmp_path / "trunk"


def stage(root: Path, on_error: str = "fail", **view: Any) -> Extract:
    source = FolderVideos(root=str(root), view=VIEW | view, on_error=on_error)  # type: ignore[arg-type]
    runtime = Runtime(accelerator="cpu")
    return Extract(
        data=source, model=MODEL, dtype="float32", batch_size=BATCH, precision="32-true", runtime=runtime
    )


def run(extract: Extract, out: Path, trunk: Path) -> Index:
    out.mkdir(exist_ok=True)
    index = extract.data.index()
    index.write(out)
    extract.run(out, data=out, trunk=trunk)
    return index


def test_row_i_view_v_is_the_clip_that_one_would_cut_by_hand(root: Path, given: Path, tmp_path: Path) -> None:
    extract = stage(root)
    index = run(extract, tmp_path / "out", given)
    network = MODEL.build().network.eval()
    state = load_file(given / "trunk.safetensors")
    network.load_state_dict({name.removeprefix("network."): state[name] for name in state if "." in name})

    views = read_rows(tmp_path / "out", "views", index)
    assert (views.shape, views.dtype) == ((8, 2, 16), np.float32)
    for row in range(8):
        clips = extract.data.sample(index, row)
        assert [[number_of(frame) - 20 * row for frame in clip] for clip in clips] == [
            [0, 1, 2],
            [10, 11, 12],
        ]
        for view, clip in enumerate(clips):
            crop = clip[:, :, 4:28, 4:28].permute(1, 0, 2, 3)
            with torch.inference_mode():
                by_hand = network(((crop / 255 - state["mean"]) / state["std"])[None])[0]
            np.testing.assert_allclose(views[row, view], by_hand, rtol=1e-4, atol=1e-6)
    assert np.ptp(views.reshape(16, -1), axis=0).max() > 1e-3, "the clips differ"

    means = read_rows(tmp_path / "out", "features", index)
    assert np.array_equal(means, (views[:, 0] + views[:, 1]) / 2)
    assert np.load(tmp_path / "out" / "skipped.npy").tolist() == []
    assert json.loads((tmp_path / "out" / "facts.json").read_text()) == {"dim": 16}


def test_one_view_is_no_axis(root: Path, given: Path, tmp_path: Path) -> None:
    index = run(stage(root, clips_per_video=1), tmp_path / "out", given)

    assert read_rows(tmp_path / "out", "features", index).shape == (8, 16)
    assert not (tmp_path / "out" / "views.npy").exists()


def test_a_broken_video_has_zeros_and_is_listed(root: Path, given: Path, tmp_path: Path) -> None:
    index = run(stage(root), tmp_path / "whole", given)
    whole = read_rows(tmp_path / "whole", "views", index)
    (root / NAMES[5]).write_bytes((root / NAMES[5]).read_bytes()[:200])

    index = run(stage(root, on_error="skip"), tmp_path / "out", given)

    out, others = tmp_path / "out", [row for row in range(8) if row != 5]
    views, means = (read_rows(out, name, index) for name in ("views", "features"))
    assert not views[5].any()
    assert not means[5].any()
    assert np.array_equal(views[others], whole[others])
    assert np.load(out / "skipped.npy").tolist() == [5]
    assert json.loads((out / "facts.json").read_text()) == {"dim": 16, "skipped": [NAMES[5]]}


KILLED_IN_ROW_4 = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cf_lightning.callbacks.row_writer import RowWriter
from cf_lightning.data.video_source import VideoSource
from cf_lightning.rows import RowFile
from test_extracted_views import run, stage

RowFile.SYNC_SECONDS = -1.0  # each batch is recorded
RowWriter.AHEAD = 0  # before the next one is decoded
sample = VideoSource.sample

def killed(self, index, row, random=False):
    if row == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return sample(self, index, row, random)

VideoSource.sample = killed
run(stage(Path(sys.argv[2])), Path(sys.argv[3]), Path(sys.argv[4]))
"""


@pytest.mark.slow
def test_killed_in_the_middle_what_is_there_is_not_decoded_again(
    root: Path, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(stage(root), tmp_path / "whole", given)
    tests, out = Path(__file__).parents[1], tmp_path / "out"
    code = f"import sys; sys.path.insert(0, {str(tests)!r}){KILLED_IN_ROW_4}"
    line = [sys.executable, "-c", code, str(Path(__file__).parent), str(root), str(out), str(given)]
    assert subprocess.run(line, check=False).returncode == -signal.SIGKILL
    assert not (out / "features.npy").exists()

    decoded: list[int] = []
    sample = VideoSource.sample

    def noted(self: VideoSource, index: Index, row: int, random: bool = False) -> torch.Tensor:
        decoded.append(row)
        return sample(self, index, row, random)

    monkeypatch.setattr(VideoSource, "sample", noted)
    run(stage(root), out, given)

    assert set(decoded) == {3, 4, 5, 6, 7}, "the batch of 0, 1 and 2 was there"
    for name in ("views.npy", "features.npy", "skipped.npy"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(
    root: Path, compose: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    found = []
    for devices in (1, 2):
        cfg = compose(
            *("+experiment=hashtag_video_r2plus1d34", "model=tiny_video", "data=video_folder"),
            *(f"data.root={root}", "data.view.resize=32", "data.view.crop=24", "data.view.frames=3"),
            *("target_features.batch_size=3", "runtime.accelerator=cpu", f"runtime.devices={devices}"),
        )
        plan = Plan(Store(str(tmp_path / f"store{devices}")))
        node = {**cfg["target_features"], "data": cfg["data"], "model": cfg["model"], "random_seed": 1}
        step = plan.add("extract", node, "features", data=plan.index(cfg["data"], "data"))
        plan.check()
        plan.run(Console())
        files = [(plan.folder(step) / name).read_bytes() for name in ("views.npy", "features.npy")]
        found.append([step.key, *files])
    assert found[0] == found[1]
    assert len(np.unique(np.load(plan.folder(step) / "views.npy"))) > 16
