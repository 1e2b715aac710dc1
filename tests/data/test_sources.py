"""Every source, from listing to pixels: an image's grey level is its number, and the number is the truth."""

import csv
import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from torchvision.datasets import Country211, FashionMNIST, Food101

from cf_lightning.config import build, conf_dir
from cf_lightning.data.folder import FolderImages
from cf_lightning.data.image_source import ImageSource
from cf_lightning.data.index import Index
from cf_lightning.data.manifest import Columns, ManifestImages
from cf_lightning.data.shards import ShardImages
from cf_lightning.data.source import Source
from cf_lightning.data.torchvision import TorchvisionImages
from cf_lightning.errors import DataError

CLASSES = ("cat", "dog", "owl")
SPLITS = ("train", "val", "test")
COUNT = 24


def label_of(number: int) -> str:
    return CLASSES[number * 7 % 3]


def split_of(number: int) -> str:
    return SPLITS[number * 5 % 4 % 3]


def tags_of(number: int) -> list[str]:
    return [f"t{number}", "all"][: number % 3]


def encoded(number: int, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12 + number, 10), (number * 10,) * 3).save(buffer, kind)
    return buffer.getvalue()


def number_of(image: torch.Tensor) -> int:
    assert image.dtype == torch.uint8
    assert image.shape[0] == 3
    return round(float(image.float().mean()) / 10)


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def zip_folder(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*"), reverse=True):  # not in the order of the rows
            if file.is_file():
                # a local header longer than the directory says, as other zip programs write it
                with archive.open(file.relative_to(folder).as_posix(), "w", force_zip64=True) as member:
                    member.write(file.read_bytes())
    return path


def class_folders(root: Path) -> ImageSource:
    for number in range(COUNT):
        split = {"val": "validation"}.get(split_of(number), split_of(number))
        write(root / split / label_of(number) / f"{number * 11 % 24:02d}.jpg", encoded(number))
    return FolderImages(root=str(root))


def class_folders_in_zip(root: Path) -> ImageSource:
    class_folders(root)
    return FolderImages(root=str(zip_folder(root)))


def table() -> dict[str, list[str]]:
    order = [number * 11 % COUNT for number in range(COUNT)]  # the manifest's order is not that of the paths
    return {
        "file": [f"pictures/{number * 5 % 24:02d}.jpg" for number in order],
        "part": [{"val": "validation"}.get(split_of(number), split_of(number)) for number in order],
        "class": [label_of(number) for number in order],
        "tags": [" ".join(tags_of(number)) for number in order],
        "caption": [f'of "{number}",\nas it is' for number in order],
    }


def pictures(root: Path) -> None:
    for number in range(COUNT):
        write(root / "pictures" / f"{number * 5 % 24:02d}.jpg", encoded(number))


def write_csv(path: Path, columns: dict[str, list[str]]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


NAMES = Columns(path="file", split="part", label="class")


def csv_manifest(root: Path) -> ImageSource:
    pictures(root)
    write_csv(root / "list.csv", table())
    return ManifestImages(root=str(root), manifest="list.csv", columns=NAMES)


def csv_manifest_in_zip(root: Path) -> ImageSource:
    csv_manifest(root)
    return ManifestImages(root=str(zip_folder(root)), manifest="list.csv", columns=NAMES)


def parquet_manifest_elsewhere(root: Path) -> ImageSource:
    pictures(root)
    columns = table()
    tags = [text.split() or None for text in columns["tags"]]
    classes = pa.array(columns["class"]).dictionary_encode()
    path = root.parent / "list.parquet"
    pq.write_table(pa.table({**columns, "tags": tags, "class": classes}), path)
    return ManifestImages(root=str(root), manifest=str(path), columns=NAMES)


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def shards(root: Path) -> ImageSource:
    for split in SPLITS:
        numbers = [number for number in reversed(range(COUNT)) if split_of(number) == split]
        for part, some in enumerate((numbers[::2], numbers[1::2])):
            (root / split).mkdir(parents=True, exist_ok=True)
            with tarfile.open(root / split / f"{part:03d}.tar", "w") as archive:
                for place, number in enumerate(some):  # the same names in every shard
                    about = {"tags": tags_of(number), "label": "not this one", "width": 9}
                    add(archive, f"{place:03d}.json", json.dumps(about).encode())
                    add(archive, f"{place:03d}.jpg", encoded(number))
                    add(archive, f"{place:03d}.cls", f"{label_of(number)}\n".encode())
                    add(archive, f"{place:03d}.txt", b"a caption")
    return ShardImages(root=str(root))


SOURCES = [
    class_folders,
    class_folders_in_zip,
    csv_manifest,
    csv_manifest_in_zip,
    parquet_manifest_elsewhere,
    shards,
]


def truth(source: ImageSource, index: Index) -> dict[int, tuple[str, list[str], list[str]]]:
    rows = index.table.select(["split", "labels", "tags"]).to_pylist()
    return {
        number_of(source.image(index, row)): (entry["split"], entry["labels"], entry["tags"])
        for row, entry in enumerate(rows)
    }


@pytest.mark.parametrize("make", SOURCES)
def test_split_label_and_tags_belong_to_the_pixels(
    make: Callable[[Path], ImageSource], tmp_path: Path
) -> None:
    source = make(tmp_path / "set")
    index = source.index()
    found = truth(source, index)
    assert list(index.table["key"].to_pylist()) == sorted(index.table["key"].to_pylist())
    assert sorted(found) == list(range(COUNT))
    for number, (split, labels, tags) in found.items():
        assert split == split_of(number)
        assert labels == [label_of(number)]
        assert tags == ([] if isinstance(source, FolderImages) else tags_of(number))
    names = [index.classes[label] for label in index.single_labels()]
    assert names == [labels[0] for _, labels, _ in found.values()]


@pytest.mark.parametrize("make", SOURCES)
def test_a_stored_index_reads_the_same_bytes(make: Callable[[Path], ImageSource], tmp_path: Path) -> None:
    source = make(tmp_path / "set")
    index = source.index()
    index.write(tmp_path)
    again = Index.read(tmp_path)
    assert again.fingerprint == index.fingerprint
    for row in range(COUNT):
        number = number_of(source.image(index, row))
        assert source.encoded(again, row) == encoded(number)


@pytest.mark.parametrize("make", SOURCES)
def test_fingerprint_knows_neither_root_nor_time(make: Callable[[Path], ImageSource], tmp_path: Path) -> None:
    here = make(tmp_path / "here" / "set").index()
    source = make(tmp_path / "there" / "renamed")
    for file in (tmp_path / "there").rglob("*"):
        os.utime(file, (1, 1))
    assert source.index().fingerprint == here.fingerprint


def test_fingerprint_changes_with_a_label_and_with_a_size(tmp_path: Path) -> None:
    root = tmp_path / "set"
    source = csv_manifest(root)
    before = source.index().fingerprint
    columns = table()
    columns["class"][3] = "emu"
    write_csv(root / "list.csv", columns)
    relabelled = source.index().fingerprint
    write(root / "pictures" / "00.jpg", encoded(20))
    assert len({before, relabelled, source.index().fingerprint}) == 3


def test_folder_zip_and_tar_give_the_same_pixels(tmp_path: Path) -> None:
    root = tmp_path / "set"
    folder, packed, tars = class_folders(root), FolderImages(root=str(zip_folder(root))), tmp_path / "tars"
    for split in SPLITS:
        (tars / split).mkdir(parents=True)
        with tarfile.open(tars / split / "0.tar", "w") as archive:
            below = root / {"val": "validation"}.get(split, split)
            archive.add(below, arcname="a_folder_" * 15)  # longer than a plain tar header holds
    sources = [folder, packed, ShardImages(root=str(tars))]
    indexes = [source.index() for source in sources]
    images = [[s.image(i, row) for row in range(COUNT)] for s, i in zip(sources, indexes, strict=True)]
    for first, second, third in zip(*images, strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first, third)


def test_without_splits_a_share_becomes_val_and_stays_so_as_files_are_added(tmp_path: Path) -> None:
    def val_keys(root: Path, holdout: float) -> set[str]:
        index = FolderImages(root=str(root), holdout=holdout).index()
        return {index.key(int(row)) for row in index.rows("val")}

    for number in range(300):
        write(tmp_path / "a" / label_of(number) / f"{number}.jpg", b"not looked at")
    before = val_keys(tmp_path / "a", 0.2)
    assert 35 <= len(before) <= 85
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for number in range(300, 400):
        write(tmp_path / "b" / label_of(number) / f"{number}.jpg", b"not looked at")
    after = val_keys(tmp_path / "b", 0.2)
    assert {key for key in after if int(Path(key).stem) < 300} == before
    assert len(after) > len(before)
    assert val_keys(tmp_path / "a", 0.0) == set()
    assert val_keys(tmp_path / "a", 0.1) < before


def test_folders_list_images_only_and_unlabelled_ones_too(tmp_path: Path) -> None:
    for name in ("1.JPG", "a b/2.png", "a b/deeper/3.webp"):
        write(tmp_path / "set" / name, encoded(1, "PNG"))
    for name in (".hidden.jpg", "._1.JPG", ".cache/4.jpg", "notes.txt", "a b/.5.png"):
        write(tmp_path / "set" / name, b"not an image")
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere" / "6.jpg", encoded(6))
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    for root in (tmp_path / "set", zip_folder(tmp_path / "set")):
        table = FolderImages(root=str(root), holdout=0.0).index().table
        found = dict(zip(table["key"].to_pylist(), table["labels"].to_pylist(), strict=True))
        linked = {"linked/6.jpg": ["linked"]} if root.is_dir() else {}
        assert found == {"1.JPG": [], "a b/2.png": ["a b"], "a b/deeper/3.webp": ["a b"], **linked}


def test_a_manifest_of_paths_alone(tmp_path: Path) -> None:
    for name in ("b.jpg", "a, really.jpg"):
        write(tmp_path / name, encoded(1))
    (tmp_path / "m.csv").write_text('path\n./b.jpg\n"a, really.jpg"\n')
    rows = ManifestImages(root=str(tmp_path), manifest="m.csv", holdout=0.0).index().table.to_pylist()
    assert [(row["key"], row["split"], row["labels"], row["tags"]) for row in rows] == [
        ("a, really.jpg", "train", [], []),
        ("b.jpg", "train", [], []),
    ]


def test_manifest_cells_stay_text_and_hold_several_words(tmp_path: Path) -> None:
    for name in "abcd":
        write(tmp_path / f"{name}.jpg", encoded(1))
    rows = ["a.jpg,train,007,", "b.jpg,valid,1 19, sun  sea ", "c.jpg, test,,NA", "d.jpg,val,nan,x"]
    text = "\n".join(["\ufeffpath,split,label,tags", *rows])
    (tmp_path / "m.csv").write_text(text, encoding="utf-8")
    found = ManifestImages(root=str(tmp_path), manifest="m.csv").index().table.to_pylist()
    assert [(row["split"], row["labels"], row["tags"]) for row in found] == [
        ("train", ["007"], []),
        ("val", ["1", "19"], ["sun", "sea"]),
        ("test", [], ["NA"]),
        ("val", ["nan"], ["x"]),
    ]


def test_json_of_a_shard_gives_label_and_tags(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, about in (("0", {"label": 3}), ("1", {"label": ["x", "y"], "tags": "b a"}), ("2", {})):
            add(archive, f"./{name}.seg.png", b"a mask")
            add(archive, f"./{name}.png", encoded(int(name), "PNG"))
            add(archive, f"./{name}.json", json.dumps(about).encode())
    source = ShardImages(root=str(tmp_path), holdout=0.0)
    index = source.index()
    assert truth(source, index) == {
        0: ("train", ["3"], []),
        1: ("train", ["x", "y"], ["b", "a"]),
        2: ("train", [], []),
    }


@pytest.mark.parametrize("file", sorted((conf_dir() / "data").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_configuration_is_a_source_that_asks_for_its_root(file: Path) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = OmegaConf.to_container(compose(overrides=[f"+data={file.stem}"]).data)
    assert isinstance(node, dict)
    source = build({str(name): value for name, value in node.items()}, "data")
    assert isinstance(source, Source)
    with pytest.raises(DataError, match=f"root is not set: .* your {source.GIVES}"):
        source.index()


def idx_file(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4) for size in array.shape)
    return header + array.tobytes()


def test_torchvision_set_with_train_and_test(tmp_path: Path) -> None:
    for part, numbers in (("train", range(16)), ("t10k", range(16, 24))):
        images = np.stack([np.full((28, 28), number * 10, np.uint8) for number in numbers])
        labels = np.array([number * 7 % 10 for number in numbers], np.uint8)
        write(tmp_path / "FashionMNIST" / "raw" / f"{part}-images-idx3-ubyte", idx_file(images))
        write(tmp_path / "FashionMNIST" / "raw" / f"{part}-labels-idx1-ubyte", idx_file(labels))
    source = TorchvisionImages(name="FashionMNIST", root=str(tmp_path), holdout=0.0)
    index = source.index()
    assert index.key(17) == "FashionMNIST/test/00000001"
    fresh = TorchvisionImages(name="FashionMNIST", root=str(tmp_path))  # a loader process has listed nothing
    for row in range(24):
        assert number_of(fresh.image(index, row)) == row
        entry = index.table.slice(row, 1).to_pylist()[0]
        assert entry["split"] == ("train" if row < 16 else "test")
        assert entry["labels"] == [FashionMNIST.classes[row * 7 % 10]]


def test_torchvision_sets_with_named_splits(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "valid", "test") * 2):
        write(tmp_path / "country211" / split / label_of(number) / f"{number}.jpg", encoded(number))
    source = TorchvisionImages(name=Country211.__name__, root=str(tmp_path))
    found = truth(source, source.index())
    assert {number: split for number, (split, _, _) in found.items()} == {
        number: SPLITS[number % 3] for number in range(6)
    }
    assert all(labels == [label_of(number)] for number, (_, labels, _) in found.items())

    food = tmp_path / "food-101"
    names = {"train": [0, 3, 2], "test": [1, 4]}
    for split, numbers in names.items():
        listed: dict[str, list[str]] = {label_of(number): [] for number in numbers}
        for number in numbers:
            listed[label_of(number)].append(f"{label_of(number)}/{number}")
            write(food / "images" / label_of(number) / f"{number}.jpg", encoded(number))
        write(food / "meta" / f"{split}.json", json.dumps(listed).encode())
    source = TorchvisionImages(name=Food101.__name__, root=str(tmp_path))
    found = truth(source, source.index())
    assert sorted(found) == [0, 1, 2, 3, 4]
    for number, (split, labels, _) in found.items():
        assert split == ("train" if number in names["train"] else "test")
        assert labels == [label_of(number)]
