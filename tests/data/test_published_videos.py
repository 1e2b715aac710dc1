"""Published video data sets, as replicas of their layouts: a video's frames tell which one it is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cf_lightning.data.clip_view import ClipView
from cf_lightning.data.dataset import SampleDataset
from cf_lightning.data.published import PublishedVideos
from cf_lightning.data.published.hmdb51 import HMDB51
from cf_lightning.data.published.kinetics import Kinetics
from cf_lightning.data.published.something_something import FPS, SomethingSomethingV1
from cf_lightning.data.published.sports1m import Sports1M
from cf_lightning.data.published.ucf101 import UCF101
from cf_lightning.data.video.jpeg_frames import JpegFrames
from cf_lightning.errors import DataError
from replicas import refused_line, text
from videos import number_of, numbered_frames, write_video

SIZE = 48
VIEW = ClipView(resize=SIZE, crop=SIZE, frames=2, clips_per_video=1)
PIXELS = PublishedVideos.MAX_PIXELS
Listing = list[tuple[str, str, list[str]]]


def video(path: Path, number: int) -> None:
    codec = "mpeg4" if path.suffix == ".avi" else "libx264"
    write_video(path, numbered_frames(4, first=10 * number), codec=codec)


def jpegs(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, start=1):
        Image.fromarray(frame).save(folder / f"{number:05d}.jpg", quality=95, subsampling=0)


def listing(source: PublishedVideos) -> Listing:
    table = source.index().table
    return list(zip(*(table[name].to_pylist() for name in ("key", "split", "labels")), strict=True))


def numbers(source: PublishedVideos) -> list[int]:
    """Which video lies behind each row."""
    index = source.index()
    found = []
    for row in range(len(index)):
        frames = source.sample(index, row)
        assert frames.dtype == torch.uint8
        assert frames.shape == (2, 3, SIZE, 64)
        found.append(number_of(frames[0]) // 10)
    return found


def kinetics(root: Path) -> PublishedVideos:
    header = "label,youtube_id,time_start,time_end,split,is_cc"
    text(
        root / "annotations/train.csv",
        header,
        '"riding a bike",-AbC_012xyz,7,17,train,0',
        "petting animal (not cat),zzzzzzzzzzz,120,130,train,1",
        "petting animal (not cat),damaged0000,1,11,train,0",
    )
    text(root / "annotations/val.csv", header[:-6], '"riding a bike",valvalval_1,0,10,val')
    text(root / "annotations/test.csv", "youtube_id,time_start,time_end,split", "testtest_12,0,10,test")
    video(root / "train/-AbC_012xyz_000007_000017.mp4", 1)
    video(root / "train/petting_animal_not_cat/zzzzzzzzzzz_000120_000130.mp4", 2)
    text(root / "train/damaged0000_000001_000011.mp4", "damaged")
    video(root / "replacement/replacement_for_corrupted_k400/damaged0000_000001_000011.mp4", 0)
    video(root / "val/valvalval_1_000000_000010.mp4", 3)
    video(root / "test/testtest_12_000000_000010.mp4", 9)
    return Kinetics(root=str(root), view=VIEW)


KINETICS: Listing = [
    (
        "replacement/replacement_for_corrupted_k400/damaged0000_000001_000011.mp4",
        "train",
        ["petting animal (not cat)"],
    ),
    ("train/-AbC_012xyz_000007_000017.mp4", "train", ["riding a bike"]),
    (
        "train/petting_animal_not_cat/zzzzzzzzzzz_000120_000130.mp4",
        "train",
        ["petting animal (not cat)"],
    ),
    ("val/valvalval_1_000000_000010.mp4", "val", ["riding a bike"]),
]


def sports1m(root: Path) -> PublishedVideos:
    text(root / "labels.txt", "air racing", "pétanque", "kyūdō")
    text(
        root / "original/train_partition.txt",
        "https://www.youtube.com/watch?v=UDqivjS-lpI 2,0",
        "http://www.youtube.com/watch?v=-0000000001 1",
    )
    text(root / "original/test_partition.txt", "https://www.youtube.com/watch?v=_0000000002 0,1,2")
    video(root / "videos/-0000000001.mkv", 0)
    video(root / "videos/UDqivjS-lpI.mp4", 1)
    video(root / "videos/_0000000002.webm.mp4", 2)
    return Sports1M(root=str(root), view=VIEW)


SPORTS1M: Listing = [
    ("videos/-0000000001.mkv", "train", ["pétanque"]),
    ("videos/UDqivjS-lpI.mp4", "train", ["kyūdō"]),
    ("videos/_0000000002.webm.mp4", "test", ["air racing"]),
]


def ucf101(root: Path) -> PublishedVideos:
    text(root / "ucfTrainTestlist/classInd.txt", "1 Archery", "2 HandstandPushups", end="\r\n")
    for fold, (train, test) in {1: (1, 2), 2: (2, 1)}.items():
        lists = root / "ucfTrainTestlist"
        text(
            lists / f"trainlist{fold:02d}.txt",
            f"Archery/v_Archery_g0{train}_c01.avi 1",
            f"HandstandPushups/v_HandStandPushups_g0{train}_c01.avi 2",
            end="\r\n",
        )
        text(lists / f"testlist{fold:02d}.txt", f"Archery/v_Archery_g0{test}_c01.avi", end="\r\n")
    video(root / "UCF-101/Archery/v_Archery_g01_c01.avi", 0)
    video(root / "UCF-101/Archery/v_Archery_g02_c01.avi", 1)
    video(root / "UCF-101/HandstandPushups/v_HandStandPushups_g01_c01.avi", 2)
    video(root / "UCF-101/HandstandPushups/v_HandStandPushups_g02_c01.avi", 3)
    return UCF101(root=str(root), view=VIEW)


UCF: Listing = [
    ("UCF-101/Archery/v_Archery_g01_c01.avi", "train", ["Archery"]),
    ("UCF-101/Archery/v_Archery_g02_c01.avi", "test", ["Archery"]),
    ("UCF-101/HandstandPushups/v_HandStandPushups_g01_c01.avi", "train", ["HandstandPushups"]),
]
ODD = ("#20_(Rad)_ride_bike_f_cm_np1.avi", "a;b&c!_ride_bike_#t=1.avi", "Mädchen 5%20_ride_bike.avi")


def hmdb51(root: Path) -> PublishedVideos:
    lists = root / "testTrainMulti_7030_splits"
    text(
        lists / "ride_bike_test_split1.txt",
        *(f"{name} {part} " for name, part in zip(ODD, "121", strict=True)),
    )
    text(lists / "ride_bike_test_split2.txt", f"{ODD[0]} 2 ")
    text(lists / "wave_test_split1.txt", "hello_wave.avi 2 ", "unused_wave.avi 0 ")
    for number, name in enumerate(ODD):
        video(root / "ride_bike" / name, number)
    video(root / "wave/hello_wave.avi", 3)
    return HMDB51(root=str(root), view=VIEW)


HMDB: Listing = [
    (f"ride_bike/{ODD[0]}", "train", ["ride_bike"]),
    (f"ride_bike/{ODD[2]}", "train", ["ride_bike"]),
    (f"ride_bike/{ODD[1]}", "test", ["ride_bike"]),
    ("wave/hello_wave.avi", "test", ["wave"]),
]


def something(root: Path) -> PublishedVideos:
    name, labels = "something-something-v1", ("Moving something, slowly", "Tearing something")
    text(root / f"{name}-labels.csv", *labels)
    text(root / f"{name}-train.csv", f"24413;{labels[1]}", f"100218;{labels[0]}")
    text(root / f"{name}-validation.csv", f"7;{labels[1]}")
    text(root / f"{name}-test.csv", "8")
    for number, folder in enumerate(("100218", "24413", "7", "8")):
        jpegs(root / "20bn-something-something-v1" / folder, numbered_frames(4, first=10 * number))
    return SomethingSomethingV1(root=str(root), view=VIEW)


SOMETHING: Listing = [
    ("20bn-something-something-v1/100218", "train", ["Moving something, slowly"]),
    ("20bn-something-something-v1/24413", "train", ["Tearing something"]),
    ("20bn-something-something-v1/7", "val", ["Tearing something"]),
]

SETS = [
    pytest.param(kinetics, KINETICS, [0, 1, 2, 3], id="kinetics"),
    pytest.param(sports1m, SPORTS1M, [0, 1, 2], id="sports1m"),
    pytest.param(ucf101, UCF, [0, 1, 2], id="ucf101"),
    pytest.param(hmdb51, HMDB, [0, 2, 1, 3], id="hmdb51"),
    pytest.param(something, SOMETHING, [0, 1, 2], id="something"),
]
Make = Callable[[Path], PublishedVideos]


@pytest.mark.parametrize(("make", "expected", "shown"), SETS)
def test_every_video_has_its_split_its_label_and_its_frames(
    make: Make, expected: Listing, shown: list[int], tmp_path: Path
) -> None:
    source = make(tmp_path)
    assert listing(source) == expected
    assert None not in source.index().table["size"].to_pylist()
    assert numbers(source) == shown


@pytest.mark.parametrize(("make", "expected", "shown"), SETS)
def test_a_video_that_is_gone_is_refused_or_skipped(
    make: Make, expected: Listing, shown: list[int], tmp_path: Path
) -> None:
    source = make(tmp_path)
    before = source.index().fingerprint
    gone = tmp_path / expected[1][0]
    gone.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError) as caught:
        source.index()
    assert f"1 of {len(expected)} listed samples are not there" in str(caught.value)
    assert gone.name[:11] in str(caught.value)
    skipping = source.model_copy(update={"on_error": "skip"})
    index = skipping.index()
    assert len(index) == len(expected)
    assert index.fingerprint != before
    row = index.table["size"].to_pylist().index(None)
    assert index.table["labels"][row].as_py() == expected[1][2]
    dataset = SampleDataset(skipping, index, index.single_labels())
    assert [dataset[r][2] for r in range(len(index))] == [~r if r == row else r for r in range(len(index))]


def test_a_root_without_any_of_the_videos_is_refused_even_where_they_are_skipped(tmp_path: Path) -> None:
    source = ucf101(tmp_path).model_copy(update={"on_error": "skip"})
    (tmp_path / "UCF-101").rename(tmp_path / "videos")
    with pytest.raises(DataError, match=r"3 of 3 listed samples are not there, .* put them below the root$"):
        source.index()


def test_another_number_of_videos_than_published_is_refused(tmp_path: Path) -> None:
    source = ucf101(tmp_path)
    assert len(source.model_copy(update={"expected": {"classes": 2, "samples": 3}}).index()) == 3
    published = source.model_copy(update={"expected": {"classes": 2, "samples": 13320}})
    with pytest.raises(DataError, match=r"not as published: samples 3 \(published: 13,320\); complete it"):
        published.index()


@pytest.mark.parametrize(("make", "key"), [(ucf101, UCF[0][0]), (hmdb51, HMDB[0][0])])
def test_another_fold_is_another_split(make: Make, key: str, tmp_path: Path) -> None:
    source = make(tmp_path)
    for fold, expected in {1: "train", 2: "test"}.items():
        listed = listing(source.model_copy(update={"fold": fold}))
        assert {name: split for name, split, _ in listed}[key] == expected
    with pytest.raises(DataError, match=r"list03\.txt|split3\.txt"):
        source.model_copy(update={"fold": 3}).index()


BAD_LINES = [
    (kinetics, "annotations/val.csv", "riding a bike,short,0,10,val"),
    (kinetics, "annotations/train.csv", ",zzzzzzzzzzz,120,130,train"),
    (sports1m, "original/test_partition.txt", "https://www.youtube.com/watch?v=_0000000002"),
    (sports1m, "original/train_partition.txt", "https://example.com/UDqivjS-lpI 2"),
    (ucf101, "ucfTrainTestlist/testlist01.txt", "v_Archery_g01_c01.avi"),
    (ucf101, "ucfTrainTestlist/classInd.txt", "Archery"),
    (hmdb51, "testTrainMulti_7030_splits/wave_test_split1.txt", "hello_wave.avi 3"),
    (something, "something-something-v1-train.csv", "100218,Tearing something"),
]


@pytest.mark.parametrize(("make", "name", "line"), BAD_LINES)
def test_a_line_that_is_malformed_is_shown_with_its_file_and_number(
    make: Make, name: str, line: str, tmp_path: Path
) -> None:
    source = make(tmp_path)
    with open(tmp_path / name, "a") as file:
        file.write("\n" + line + "\n")
    number = (tmp_path / name).read_text().splitlines().index(line) + 1
    with pytest.raises(DataError) as caught:
        source.index()
    assert f"{name}, line {number}: {line!r} should be like" in str(caught.value)


@pytest.mark.parametrize(
    ("make", "name", "line", "message"),
    [
        (
            sports1m,
            "original/train_partition.txt",
            "http://y/?v=-0000000009 3",
            "names 3 of them, from 0 to 2",
        ),
        (
            ucf101,
            "ucfTrainTestlist/trainlist01.txt",
            "Archery/v_Archery_g03_c01.avi 2",
            "Archery is number 1",
        ),
        (ucf101, "ucfTrainTestlist/testlist01.txt", "Archer/v_Archer_g03_c01.avi", "Archer is no class"),
        (something, "something-something-v1-validation.csv", "9;Tearing", "labels.csv does not name"),
    ],
)
def test_lists_that_contradict_each_other(
    make: Make, name: str, line: str, message: str, tmp_path: Path
) -> None:
    assert message in refused_line(make(tmp_path), tmp_path, name, line)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (kinetics, "annotations/train.csv"),
        (sports1m, "labels.txt"),
        (ucf101, "ucfTrainTestlist/classInd.txt"),
        (something, "something-something-v1-labels.csv"),
    ],
)
def test_lists_that_are_missing_or_in_another_encoding(make: Make, name: str, tmp_path: Path) -> None:
    source = make(tmp_path)
    (tmp_path / name).write_bytes("café\n".encode("latin-1"))
    with pytest.raises(DataError, match=f"{name} is not UTF-8"):
        source.index()
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"{name} cannot be read \\(No such file"):
        source.index()


def test_hmdb51_without_its_lists(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no testTrainMulti_7030_splits/CLASS_test_split1\.txt"):
        HMDB51(root=str(tmp_path)).index()


def test_frames_are_those_that_were_written(tmp_path: Path) -> None:
    written = numbered_frames(5)
    jpegs(tmp_path / "1", written)
    text(tmp_path / "1" / "notes.txt", "no frame")
    with JpegFrames(tmp_path / "1", FPS, SIZE, "bilinear", PIXELS) as video:
        assert (video.begin, video.num_frames) == (0.0, 5)
        assert video.end == pytest.approx(5 / 12)
        assert video.fps == pytest.approx(12)
        frames = video.frames(np.arange(5) / FPS)
        difference = frames.permute(0, 2, 3, 1).numpy().astype(float) - written
        assert np.abs(difference).mean() < 3
        times = np.array([0.3, -1.0, 9.0, 0.3, 1.99 / 12])
        assert [number_of(frame) for frame in video.frames(times)] == [3, 0, 4, 3, 1]
    with JpegFrames(tmp_path / "1", FPS, SIZE // 2, "bicubic", PIXELS) as video:
        smaller = video.frames(np.array([0.1]))
    assert smaller.shape == (1, 3, 24, 32)
    blocks = written[1].reshape(24, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(smaller[0].permute(1, 2, 0).numpy() - blocks).mean() < 6


def test_folders_of_frames_that_are_damaged(tmp_path: Path) -> None:
    jpegs(tmp_path / "1", numbered_frames(3))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there is no frame"):
        JpegFrames(tmp_path / "empty", FPS, SIZE, "bilinear", PIXELS)
    second = tmp_path / "1" / "00002.jpg"
    second.write_bytes(second.read_bytes()[:-300])
    with JpegFrames(tmp_path / "1", FPS, SIZE, "bilinear", PIXELS) as video:
        assert number_of(video.frames(np.array([0.0]))[0]) == 0
        with pytest.raises(ValueError, match=r"00002\.jpg: .*truncated"):
            video.frames(np.array([0.1]))
    Image.fromarray(numbered_frames(1, height=96)[0]).save(second)
    with (
        JpegFrames(tmp_path / "1", FPS, SIZE, "bilinear", PIXELS) as video,
        pytest.raises(ValueError, match="not all of one shape"),
    ):
        video.frames(np.array([0.0, 0.1]))
    with (
        JpegFrames(tmp_path / "1", FPS, SIZE, "bilinear", max_pixels=3000) as video,
        pytest.raises(ValueError, match="at most 3000"),
    ):
        video.frames(np.array([0.0]))


def test_a_damaged_video_of_frames_is_named_or_skipped(tmp_path: Path) -> None:
    source = something(tmp_path)
    (tmp_path / SOMETHING[0][0] / "00003.jpg").write_bytes(b"")
    index = source.index()
    with pytest.raises(DataError, match=r"v1/100218 cannot be decoded \(00003\.jpg: the file is empty\)"):
        source.sample(index, 0)
    for file in (tmp_path / SOMETHING[1][0]).iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"v1/24413 is empty \(0 bytes\)"):
        source.index()
