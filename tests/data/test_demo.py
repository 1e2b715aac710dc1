import csv
import importlib
import io
import zipfile
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cf_lightning.data.image_source import ImageSource
from cf_lightning.data.index import Index
from cf_lightning.data.manifest import ManifestImages

SCRIPTS = Path(__file__).resolve().parents[2] / "experiments" / "packs"


def source(manifest: str) -> ManifestImages:
    return ManifestImages(root="embedded", manifest=manifest, holdout=0.0)


def split_counts(index: Index) -> Counter[str]:
    return Counter(index.table["split"].to_pylist())


def decoded(jpeg: bytes) -> NDArray[np.float64]:
    return np.asarray(Image.open(io.BytesIO(jpeg)), dtype=np.float64)


@pytest.fixture
def make_demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("make_demo")


def test_the_demo_is_small_and_can_be_read_at_random() -> None:
    assert ImageSource.EMBEDDED.stat().st_size <= 5_000_000
    with zipfile.ZipFile(ImageSource.EMBEDDED) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert "CC0-1.0" in (ImageSource.EMBEDDED.parent / "LICENSE").read_text()


def test_tags_are_noisy_hashtags() -> None:
    index = source("tags.csv").index()
    tags = index.table["tags"].to_pylist()
    counts = Counter(tag for words in tags for tag in words)
    assert split_counts(index) == {"train": 2400, "val": 240}
    assert 2.5 < sum(map(len, tags)) / len(tags) < 3.5
    assert 0.02 < sum(not words for words in tags) / len(tags) < 0.06
    assert len(counts) > 60
    assert max(counts.values()) > 20 * min(counts.values()), "the words have a long tail"
    assert not any("#" in tag for tag in counts)
    assert index.classes == []


@pytest.mark.parametrize(("manifest", "classes"), [("species.csv", 24), ("scenes.csv", 8)])
def test_targets_have_every_class_in_both_splits(manifest: str, classes: int) -> None:
    index = source(manifest).index()
    labels = index.single_labels()
    assert split_counts(index) == {"train": 600, "test": 408}
    assert len(index.classes) == classes
    for split in ("train", "test"):
        assert min(np.bincount(labels[index.rows(split)], minlength=classes)) > 10


def test_no_target_is_told_by_the_tags_and_no_image_is_in_both() -> None:
    tags, species, scenes = (source(f"{name}.csv").index() for name in ("tags", "species", "scenes"))
    words = {tag for row in tags.table["tags"].to_pylist() for tag in row}
    names = {part for name in species.classes for part in name.split("_")} | set(scenes.classes)
    assert not words & names
    assert species.table["key"].equals(scenes.table["key"])
    with zipfile.ZipFile(ImageSource.EMBEDDED) as archive:
        content = {
            key: archive.read(key) for index in (tags, species) for key in index.table["key"].to_pylist()
        }
    assert len(set(content.values())) == len(content) == 3648


@pytest.mark.parametrize("manifest", ["tags.csv", "species.csv"])
def test_every_image_is_decoded(manifest: str) -> None:
    demo = source(manifest)
    index = demo.index()
    for row in range(len(index)):
        image = demo.image(index, row)
        assert image.shape == (3, 40, 40)
        assert image.float().std() > 8, f"{index.key(row)} shows nothing"


@pytest.mark.parametrize(("folder", "manifest"), [("tags", "tags.csv"), ("target", "species.csv")])
def test_the_generator_draws_what_is_shipped(make_demo: ModuleType, folder: str, manifest: str) -> None:
    draw = {"tags": make_demo.tagged, "target": make_demo.target}[folder]
    with zipfile.ZipFile(ImageSource.EMBEDDED) as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open(manifest))))
        for number in range(0, len(rows), 97):
            pixels, attributes = draw(number)
            drawn = make_demo.encode(Image.fromarray(pixels), make_demo.QUALITY)
            shipped = archive.read(f"{folder}/{number:06d}.jpg")
            difference = decoded(drawn) - decoded(shipped)
            assert np.abs(difference).mean() < 2, "another JPEG library may round otherwise, no more"
            word = rows[number].get("tags", rows[number].get("label"))
            assert word == attributes["tags" if folder == "tags" else "species"]
