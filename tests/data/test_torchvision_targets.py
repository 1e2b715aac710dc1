"""The targets that torchvision reads, as replicas of its layouts: an image's grey level is its class."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy.io import savemat
from torchvision.datasets import cifar, flowers102

from cf_lightning.config import build, conf_dir
from cf_lightning.data.torchvision import TorchvisionImages
from cf_lightning.errors import DataError
from replicas import image, text

Sizes = dict[str, int]


@pytest.fixture(autouse=True)
def no_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (cifar, flowers102):
        monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: Path(path).exists())


def batch(path: Path, labels: list[int], key: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.repeat(np.array(labels, np.uint8)[:, None] * 20, 3072, axis=1)
    path.write_bytes(pickle.dumps({"data": pixels, key: labels}))


def cifar10(root: Path) -> None:
    home = root / "cifar-10-batches-py"
    for number in range(5):
        batch(home / f"data_batch_{number + 1}", [number, 9 - number], "labels")
    batch(home / "test_batch", [3, 1, 2], "labels")
    (home / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {n}" for n in range(10)]}))


def cifar100(root: Path) -> None:
    home = root / "cifar-100-python"
    batch(home / "train", [2, 0, 1], "fine_labels")
    batch(home / "test", [1], "fine_labels")
    (home / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"class {n}" for n in range(3)]}))


def flowers(root: Path) -> None:
    labels = [3, 1, 2, 2, 1, 3]  # from 1, as the file has them
    for number, label in enumerate(labels, start=1):
        image(root / f"flowers-102/jpg/image_{number:05d}.jpg", label - 1)
    savemat(root / "flowers-102/imagelabels.mat", {"labels": [labels]})
    savemat(root / "flowers-102/setid.mat", {"trnid": [[5, 1]], "valid": [[3, 4]], "tstid": [[2, 6]]})


PETS = ["Abyssinian", "american_bulldog", "saint_bernard"]


def pets(root: Path) -> None:
    home = root / "oxford-iiit-pet"
    for name, labels in {"trainval": [0, 1, 2, 1], "test": [2, 1, 0]}.items():
        lines = [f"{PETS[label]}_{name}_{n} {label + 1} 1 1" for n, label in enumerate(labels)]
        lines = [
            line.replace(f"_{name}_", f"_{len(name)}") for line in lines
        ]  # what follows the breed is a number
        text(home / "annotations" / f"{name}.txt", *lines)
        for line, label in zip(lines, labels, strict=True):
            image(home / "images" / f"{line.split()[0]}.jpg", label)


TEXTURES = ["banded", "zigzagged"]


def dtd(root: Path) -> None:
    home = root / "dtd/dtd"
    for label, name in enumerate(TEXTURES):
        for number in range(3):
            image(home / "images" / name / f"{name}_{number}.jpg", label)
    for partition in (1, 2):
        for place, split in enumerate(("train", "val", "test")):
            lines = [f"{name}/{name}_{(place + partition) % 3}.jpg" for name in TEXTURES]
            text(home / "labels" / f"{split}{partition}.txt", *lines)


def eurosat(root: Path) -> None:
    for label, name in enumerate(("AnnualCrop", "River")):
        for number in range(10):
            image(root / "eurosat/2750" / name / f"{name}_{number}.jpg", label)


def classes(number: int) -> list[str]:
    return [f"class {label}" for label in range(number)]


TARGETS = [
    pytest.param("cifar10", cifar10, classes(10), {"train": 10, "test": 3}, id="cifar10"),
    pytest.param("cifar100", cifar100, classes(3), {"train": 3, "test": 1}, id="cifar100"),
    pytest.param(
        "flowers102",
        flowers,
        ["pink primrose", "hard-leaved pocket orchid", "canterbury bells"],
        {"train": 2, "val": 2, "test": 2},
        id="flowers102",
    ),
    pytest.param(
        "pets", pets, ["Abyssinian", "American Bulldog", "Saint Bernard"], {"train": 4, "test": 3}, id="pets"
    ),
    pytest.param("dtd", dtd, TEXTURES, {"train": 2, "val": 2, "test": 2}, id="dtd"),
    pytest.param("eurosat", eurosat, ["AnnualCrop", "River"], {"train": 16, "test": 4}, id="eurosat"),
]
NAMES = [str(target.values[0]) for target in TARGETS]


def target(name: str, root: Path, **settings: Any) -> TorchvisionImages:
    node: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / "target" / f"{name}.yaml"))
    source = build({**node, "root": str(root), **settings}, f"target.{name}")
    assert isinstance(source, TorchvisionImages)
    return source


@pytest.mark.parametrize(("name", "make", "names", "sizes"), TARGETS)
def test_every_image_has_its_split_and_its_class(
    name: str, make: Callable[[Path], None], names: list[str], sizes: Sizes, tmp_path: Path
) -> None:
    make(tmp_path)
    index = target(name, tmp_path, expected=None).index()
    assert index.summary() == sizes
    fresh = target(name, tmp_path, expected=None)  # a loader process has listed nothing
    for row in range(len(index)):
        shown = round(float(fresh.image(index, row).float().mean()) / 20)
        assert index.table["labels"][row].as_py() == [names[shown]]


@pytest.mark.parametrize(("name", "make", "names", "sizes"), TARGETS)
def test_a_part_of_it_is_refused(
    name: str, make: Callable[[Path], None], names: list[str], sizes: Sizes, tmp_path: Path
) -> None:
    make(tmp_path)
    with pytest.raises(
        DataError, match=r"not as published: .* \(published: .*; complete it, or take what is"
    ):
        target(name, tmp_path).index()
    header = (conf_dir() / "target" / f"{name}.yaml").read_text().split("_target_")[0]
    for number in (target(name, tmp_path).expected or {}).values():
        assert f" {number:,} " in header


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_there_is_asked_for(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"root=.* name=.*data\.download=true fetches what torchvision can"):
        target(name, tmp_path).index()


def test_every_target_of_torchvision_is_tested() -> None:
    files = sorted((conf_dir() / "target").glob("*.yaml"))
    assert [file.stem for file in files if "TorchvisionImages" in file.read_text()] == sorted(NAMES)


def test_partitions_are_different_data(tmp_path: Path) -> None:
    dtd(tmp_path)
    plain = target("dtd", tmp_path, expected=None, partition=None).index()
    indexes = [target("dtd", tmp_path, expected=None, partition=number).index() for number in (1, 2)]
    assert len({index.fingerprint for index in (plain, *indexes)}) == 3
    assert indexes[1].key(0) == "DTD partition 2/train/00000000"
    with pytest.raises(DataError, match=r"name=EuroSAT: .*unexpected keyword argument 'partition'"):
        target("eurosat", tmp_path, partition=1).index()


def test_eurosat_is_split_by_class_and_seed(tmp_path: Path) -> None:
    eurosat(tmp_path)
    first, again, other = (
        target("eurosat", tmp_path, expected={"samples": 20}, split_seed=seed).index() for seed in (0, 0, 1)
    )
    tested = sorted(first.table["labels"][int(row)].as_py()[0] for row in first.rows("test"))
    assert tested == ["AnnualCrop", "AnnualCrop", "River", "River"]
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_pets_without_a_breed_are_not_taken_for_other_breeds(tmp_path: Path) -> None:
    pets(tmp_path)
    lines = tmp_path / "oxford-iiit-pet/annotations/test.txt"
    text(lines, *(line for line in lines.read_text().splitlines() if "bulldog" not in line))
    with pytest.raises(DataError, match="2 classes, but one of them has number 2; a split lacks images"):
        target("pets", tmp_path, expected=None).index()


def test_an_empty_test_split(tmp_path: Path) -> None:
    pets(tmp_path)
    text(tmp_path / "oxford-iiit-pet/annotations/test.txt")
    assert target("pets", tmp_path, expected=None).index().summary() == {"train": 4}
    with pytest.raises(DataError, match=r"test 0 \(published: 3\)"):
        target("pets", tmp_path, expected={"train": 4, "test": 3}).index()


def test_caltech101_of_torchvision_has_numbers_for_names(tmp_path: Path) -> None:
    home = tmp_path / "caltech101/101_ObjectCategories"
    for label, name in enumerate(("Faces", "ant")):
        for number in (1, 2):
            image(home / name / f"image_{number:04d}.jpg", label)
    image(home / "BACKGROUND_Google/image_0001.jpg", 5)
    (tmp_path / "caltech101/Annotations").mkdir()
    source = TorchvisionImages(name="Caltech101", root=str(tmp_path), test_share=0.5, split_seed=0, holdout=0)
    index = source.index()
    assert index.table["labels"].to_pylist() == [["0"], ["0"], ["1"], ["1"]]
    assert index.summary() == {"train": 2, "test": 2}
    assert [round(float(source.image(index, row).float().mean()) / 20) for row in range(4)] == [0, 0, 1, 1]
