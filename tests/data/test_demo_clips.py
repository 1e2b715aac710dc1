import csv
import importlib
import io
import zipfile
from collections import Counter
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
from numpy.typing import NDArray

import cf_lightning.data

CLIPS = Path(cf_lightning.data.__file__).parent / "demo" / "clips.zip"
SCRIPTS = Path(__file__).resolve().parents[2] / "experiments" / "packs"
TABLES = ("clip_tags.csv", "actions.csv")


def rows(table: str) -> list[dict[str, str]]:
    with zipfile.ZipFile(CLIPS) as archive:
        return list(csv.DictReader(io.TextIOWrapper(archive.open(table))))


def decoded(encoded: bytes) -> tuple[NDArray[np.uint8], NDArray[np.float64], float]:
    """Frames, their presentation times and the end of the last, in seconds."""
    with av.open(io.BytesIO(encoded)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert stream.time_base is not None
        assert stream.duration is not None
        pixels = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
        return pixels, np.array([frame.time for frame in frames]), float(stream.duration * stream.time_base)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("make_demo_clips")


def test_the_clips_are_small_and_can_be_read_at_random() -> None:
    assert CLIPS.stat().st_size <= 2_500_000
    with zipfile.ZipFile(CLIPS) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_tables_name_every_clip_once() -> None:
    listed = [row["path"] for table in TABLES for row in rows(table)]
    with zipfile.ZipFile(CLIPS) as archive:
        held = [name for name in archive.namelist() if name not in TABLES]
        assert sorted(listed) == sorted(held)
        assert len({archive.read(name) for name in held}) == len(held), "no two clips are the same"


def test_tags_are_noisy_hashtags(script: ModuleType) -> None:
    table = rows("clip_tags.csv")
    tags = [row["tags"].split() for row in table]
    kinds = {word: kind for kind, words in script.DOINGS.items() for word in words.split()}
    said = [  # is the truth among the motions that the word means?
        list(script.MOTIONS)[int(Path(row["path"]).stem) % 12] in kinds[word].split()
        for row, words in zip(table, tags, strict=True)
        for word in words
        if word in kinds
    ]
    assert Counter(row["split"] for row in table) == {"train": 480, "val": 48}
    assert 0.01 < sum(not words for words in tags) / len(tags) < 0.08
    assert 0.8 < len(said) / len(table) < 0.95
    assert 0.2 < 1 - sum(said) / len(said) < 0.3
    words = {word for line in tags for word in line}
    assert words & set(importlib.import_module("hashtags").CHATTER.split())
    assert not words & (set(script.MOTIONS) | set(script.SHAPES)), "no target is told by the tags"


def test_the_target_has_as_many_clips_of_each_motion(script: ModuleType) -> None:
    counts = Counter((row["split"], row["label"]) for row in rows("actions.csv"))
    per_class = {"train": 20, "test": 13}
    assert counts == {(split, name): n for split, n in per_class.items() for name in script.MOTIONS}
    assert len(script.MOTIONS) == 12


def test_clips_decode_to_two_seconds_of_moving_pictures() -> None:
    kinds: Counter[str] = Counter()
    with zipfile.ZipFile(CLIPS) as archive:
        for row in (rows("clip_tags.csv") + rows("actions.csv"))[::20]:
            pixels, times, end = decoded(archive.read(row["path"]))
            assert pixels.shape[1:] == (40, 40, 3)
            assert pixels.std() > 8, f"{row['path']} shows nothing"
            assert np.abs(pixels - pixels[:1].astype(float)).max() > 50, f"{row['path']}: nothing moves"
            assert times[0] == 0
            assert end == pytest.approx(2)
            steady = np.ptp(np.diff(times)) < 1e-6
            kinds[f"{len(times)} frames" + ("" if steady else ", their rate varies")] += 1
    assert set(kinds) == {"16 frames", "24 frames", "16 frames, their rate varies"}
    assert kinds["16 frames"] > sum(kinds.values()) / 2


@pytest.mark.parametrize(("part", "table", "column"), [(0, TABLES[0], "tags"), (1, TABLES[1], "label")])
def test_the_generator_films_what_is_shipped(script: ModuleType, part: int, table: str, column: str) -> None:
    listed = rows(table)
    with zipfile.ZipFile(CLIPS) as archive:
        for number in range(0, len(listed), 97):
            frames, ticks, attributes = script.clip(part, number)
            pixels, times, _ = decoded(script.encode(frames, ticks))
            shipped, shipped_times, _ = decoded(archive.read(listed[number]["path"]))
            assert listed[number][column] == attributes[column]
            assert np.array_equal(times, shipped_times)
            difference = pixels.astype(float) - shipped
            assert np.abs(difference).mean() < 2, "another encoder may round otherwise, no more"


def test_motions_that_differ_in_order_share_their_poses(script: ModuleType) -> None:
    t = np.arange(0, 2.01, 0.1)
    for one, other in (("rises", "falls"), ("grows", "shrinks")):
        poses, reverse = (script.MOTIONS[name](np.random.default_rng(0), t) for name in (one, other))
        for field, mirrored in zip(poses, reverse, strict=True):
            back = np.asarray(mirrored)[::-1] if np.ndim(mirrored) else mirrored
            assert np.allclose(field, back)
