"""Videos in every layout: the clip belongs to the label, and a part of a video to its seconds."""

import csv
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cf_lightning import VideoClipDataModule
from cf_lightning.data.dataset import SampleDataset
from cf_lightning.data.folder import FolderVideos
from cf_lightning.data.index import Index
from cf_lightning.data.manifest import ManifestVideos
from cf_lightning.data.shards import ShardVideos
from cf_lightning.data.video_source import VideoSource
from cf_lightning.data.views import Augmentation
from cf_lightning.errors import DataError
from videos import number_of, numbered_frames, write_video

FRAMES, FPS, SIDE = 13, 10, 40
VIEW = {"resize": SIDE, "crop": SIDE, "frames": 3, "fps": 10.0, "clips_per_video": 2}
NAMES = [f"{label}/{number}.mp4" for label in ("left", "right") for number in range(4)]


def write_all(root: Path) -> None:
    """Video n shows the numbers from 20 n on."""
    for number, name in enumerate(NAMES):
        write_video(root / name, numbered_frames(FRAMES, SIDE, SIDE, 20 * number), fps=FPS)


def zipped(root: Path) -> str:
    with zipfile.ZipFile(root.with_suffix(".zip"), "w") as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(root))
    return str(root.with_suffix(".zip"))


def folders(root: Path) -> VideoSource:
    write_all(root)
    return FolderVideos(root=str(root), view=VIEW)  # type: ignore[arg-type]


def folders_in_zip(root: Path) -> VideoSource:
    write_all(root)
    return FolderVideos(root=zipped(root), view=VIEW)  # type: ignore[arg-type]


def table(root: Path, *more: str) -> None:
    lines = ["path,label,start,end"] + [f"{name},{name.split('/')[0]},," for name in NAMES]
    (root / "index.csv").write_text("\n".join([*lines, *more]) + "\n")


def manifest(root: Path) -> VideoSource:
    write_all(root)
    table(root)
    return ManifestVideos(root=str(root), manifest="index.csv", view=VIEW)  # type: ignore[arg-type]


def manifest_in_zip(root: Path) -> VideoSource:
    manifest(root)
    return ManifestVideos(root=zipped(root), manifest="index.csv", view=VIEW)  # type: ignore[arg-type]


def shards(root: Path) -> VideoSource:
    write_all(root)
    with tarfile.open(root / "one.tar", "w") as tar:
        for number, name in enumerate(NAMES):
            tar.add(root / name, f"{number}.mp4")
            (root / "label.cls").write_text(name.split("/")[0])
            tar.add(root / "label.cls", f"{number}.cls")
    return ShardVideos(root=str(root), view=VIEW)  # type: ignore[arg-type]


LAYOUTS = [folders, folders_in_zip, manifest, manifest_in_zip, shards]


@pytest.mark.parametrize("make", LAYOUTS)
def test_the_clips_of_a_row_are_those_of_its_label(
    make: Callable[[Path], VideoSource], tmp_path: Path
) -> None:
    source = make(tmp_path / "videos")
    index = source.index()
    data = VideoClipDataModule(source, index=index, batch_size=3)

    rows = []
    for clips, targets, batch in data.predict_dataloader():
        assert clips.shape == (3, 2, 3, 3, SIDE, SIDE)
        for video, target, row in zip(clips, targets.tolist(), batch.tolist(), strict=True):
            first, last = ([number_of(frame) for frame in clip.transpose(0, 1)] for clip in video)
            number = first[0] // 20
            assert index.classes[target] == NAMES[number].split("/")[0]
            assert first == [20 * number + frame for frame in (0, 1, 2)]
            assert last == [20 * number + frame for frame in (10, 11, 12)]
            rows.append(row)
    assert sorted(set(rows)) == list(range(len(NAMES)))


def test_training_sees_a_random_clip_of_each_video_whatever_the_workers(tmp_path: Path) -> None:
    source = folders(tmp_path / "videos")

    def epoch(workers: int) -> list[list[int]]:
        data = VideoClipDataModule(source, batch_size=2, workers=workers, seed=5)
        data.augmentation = Augmentation(min_area=None, flip=0.0)
        return [
            [number_of(f) for f in clip.transpose(0, 1)]
            for clips, *_ in data.train_dataloader()
            for clip in clips
        ]

    seen = epoch(0)

    assert all(clip == list(range(clip[0], clip[0] + 3)) for clip in seen)
    assert len({clip[0] % 20 for clip in seen}) > 1
    assert epoch(1) == seen


def test_validation_sees_the_clip_in_the_middle(tmp_path: Path) -> None:
    source = folders(tmp_path / "videos").model_copy(update={"holdout": 0.5, "split_seed": 0})

    (clips, *_), *_ = list(VideoClipDataModule(source, batch_size=4).val_dataloader())

    assert clips.shape == (4, 3, 3, SIDE, SIDE)
    assert [number_of(clip[:, 0]) % 20 for clip in clips] == [5] * 4


def test_a_part_of_a_video_is_a_sample_of_its_own(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    write_all(root)
    table(root, f"{NAMES[0]},middle,0.3,0.8", f"{NAMES[0]},tail,0.8,", f"{NAMES[0]},head,,0.5")
    source = ManifestVideos(root=str(root), manifest="index.csv", view=VIEW | {"clips_per_video": 1})  # type: ignore[arg-type]
    index = source.index()

    shown = {
        index.key(row): [number_of(frame) for frame in source.sample(index, row)] for row in range(len(index))
    }

    assert shown[f"{NAMES[0]}#t=0.3,0.8"] == [4, 5, 6]
    assert shown[f"{NAMES[0]}#t=0.8"] == [9, 10, 11]
    assert shown[f"{NAMES[0]}#t=,0.5"] == [1, 2, 3]
    assert shown[NAMES[0]] == [5, 6, 7]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{NAMES[0]},x,0.7,0.3", "left/0.mp4 ends at 0.3 s, not after its start at 0.7 s, as one of 1 rows"),
        (f"{NAMES[0]},x,0.7,0.7", "ends at 0.7 s, not after its start"),
        (f"{NAMES[0]},x,,0", "ends at 0 s, not after its start at 0 s"),
        (f"{NAMES[0]},x,soon,", "left/0.mp4 has start=soon; it is a number of seconds, 0 or more, or empty"),
        (f"{NAMES[0]},x,,-1", "has end=-1; it is a number of seconds"),
        (f"{NAMES[0]},x,nan,", "has start=nan; it is a number of seconds"),
        (f"{NAMES[0]},left,,", "left/0.mp4 is listed 2 times; list each sample once"),
    ],
)
def test_rows_that_make_no_sense(line: str, message: str, tmp_path: Path) -> None:
    root = tmp_path / "videos"
    write_all(root)
    table(root, line)

    with pytest.raises(DataError) as caught:
        ManifestVideos(root=str(root), manifest="index.csv").index()

    assert message in str(caught.value)


def test_a_part_beyond_the_end_is_named_or_skipped(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    write_all(root)
    table(root, f"{NAMES[1]},x,3,4")
    source = ManifestVideos(root=str(root), manifest="index.csv", view=VIEW)  # type: ignore[arg-type]
    index = source.index()
    row = [index.key(row) for row in range(len(index))].index(f"{NAMES[1]}#t=3,4")

    with pytest.raises(
        DataError, match=r"left/1.mp4#t=3,4 cannot be decoded \(it begins at 3 s and the video has 1.30 s\)"
    ):
        source.sample(index, row)
    skipping = source.model_copy(update={"on_error": "skip"})
    clip, _, number = SampleDataset(skipping, index, index.no_targets())[row]
    assert number == ~row
    assert clip.shape == (2, 3, 3, SIDE, SIDE)
    assert not clip.any()


def test_a_person_is_shown_a_filmstrip(tmp_path: Path) -> None:
    source = folders(tmp_path / "videos")

    strip = source.pictures(source.index(), 1)

    assert strip.shape == (3, 3, SIDE, SIDE)
    assert [number_of(frame) for frame in strip] == [22, 26, 30]


def test_a_skipped_video_is_black_in_training_too(tmp_path: Path) -> None:
    source = folders(tmp_path / "videos").model_copy(update={"on_error": "skip", "holdout": 0.0})
    broken = tmp_path / "videos" / NAMES[2]
    broken.write_bytes(broken.read_bytes()[:200])
    data = VideoClipDataModule(source, batch_size=8, augmentation=Augmentation())

    ((clips, _, index),) = list(data.train_dataloader())

    assert clips.shape == (8, 3, 3, SIDE, SIDE)
    assert not clips[index < 0].any()
    assert (~index[index < 0]).tolist() == [2]


def test_csv_paths_may_hold_a_sharp(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    write_video(root / "a #t=x.mp4", numbered_frames(FRAMES, SIDE, SIDE, 0), fps=FPS)
    with open(root / "index.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path", "start"], ["a #t=x.mp4", "0.2"]])
    source = ManifestVideos(root=str(root), manifest="index.csv", view=VIEW | {"clips_per_video": 1})  # type: ignore[arg-type]
    index: Index = source.index()

    assert [number_of(frame) for frame in source.sample(index, 0)] == [6, 7, 8]
    assert torch.is_tensor(source.sample(index, 0))
    assert np.array_equal(index.rows("train", "val"), [0])
