"""Published image data sets, as replicas of their layouts: an image's grey level tells which one it is."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cf_lightning.config import build, conf_dir
from cf_lightning.data.dataset import SampleDataset
from cf_lightning.data.index import Index
from cf_lightning.data.published import Published, PublishedImages
from cf_lightning.data.published.imagenet import ImageNet
from cf_lightning.data.published.imagenet9k import ImageNet9K
from cf_lightning.data.published.inaturalist2018 import INaturalist2018
from cf_lightning.data.published.places205 import Places205
from cf_lightning.data.published.places365 import Places365
from cf_lightning.data.published.voc07 import VOC07
from cf_lightning.errors import ConfigError, DataError
from replicas import image, refused_line, text

Listing = list[tuple[str, str, list[str]]]
VOC = "VOCdevkit/VOC2007"
PLACES205 = "data/vision/torralba/deeplearning/images256"


def imagenet(root: Path) -> PublishedImages:
    names = ["train/n01440764/n01440764_10026", "train/n02084071/n02084071_7"]
    names += ["val/n01440764/ILSVRC2012_val_00000293", "val/n02084071/ILSVRC2012_val_00000002"]
    for number, name in enumerate(names):
        image(root / f"{name}.JPEG", number)
    image(root / "test/ILSVRC2012_test_00000001.JPEG", 9)
    text(root / "train/n01440764/notes.txt", "no image")
    return ImageNet(root=str(root))


IMAGENET: Listing = [
    ("train/n01440764/n01440764_10026.JPEG", "train", ["n01440764"]),
    ("train/n02084071/n02084071_7.JPEG", "train", ["n02084071"]),
    ("val/n01440764/ILSVRC2012_val_00000293.JPEG", "val", ["n01440764"]),
    ("val/n02084071/ILSVRC2012_val_00000002.JPEG", "val", ["n02084071"]),
]


def inaturalist(root: Path) -> PublishedImages:
    names = {
        "train": ["train_val2018/Plantae/12/0b.jpg", "train_val2018/Aves/7/ff.jpg"],
        "val": ["train_val2018/Aves/7/01.jpg"],
    }
    categories = [{"id": number, "name": str(number), "supercategory": ""} for number in (7, 12)]
    for split, files in names.items():
        images = [{"id": 5 - n, "file_name": name, "height": 10} for n, name in enumerate(files)]
        annotations = [
            {"id": n, "image_id": 5 - n, "category_id": int(name.split("/")[2])}
            for n, name in enumerate(files)
        ]
        content = {"images": images, "annotations": annotations[::-1], "categories": categories}
        text(root / f"{split}2018.json", json.dumps(content))
    for number, name in enumerate(["Plantae/12/0b", "Aves/7/ff", "Aves/7/01"]):
        image(root / "train_val2018" / f"{name}.jpg", number)
    return INaturalist2018(root=str(root))


INATURALIST: Listing = [
    ("train_val2018/Aves/7/01.jpg", "val", ["0007"]),
    ("train_val2018/Aves/7/ff.jpg", "train", ["0007"]),
    ("train_val2018/Plantae/12/0b.jpg", "train", ["0012"]),
]


def places205(root: Path) -> PublishedImages:
    lists = root / "trainvalsplit_places205"
    text(lists / "train_places205.csv", "z/zen_garden/gsun_b.jpg 204", "a/abbey/gsun_c.jpg 0")
    text(lists / "val_places205.csv", "a/abbey/gsun_a.jpg 0")
    for number, name in enumerate(["z/zen_garden/gsun_b", "a/abbey/gsun_c", "a/abbey/gsun_a"]):
        image(root / PLACES205 / f"{name}.jpg", number)
    return Places205(root=str(root))


PLACES_205: Listing = [
    (f"{PLACES205}/a/abbey/gsun_a.jpg", "val", ["000"]),
    (f"{PLACES205}/a/abbey/gsun_c.jpg", "train", ["000"]),
    (f"{PLACES205}/z/zen_garden/gsun_b.jpg", "train", ["204"]),
]


def places365(root: Path) -> PublishedImages:
    text(root / "categories_places365.txt", "/a/airfield 0", "/f/field/wild 1")
    text(root / "places365_train_standard.txt", "/f/field/wild/00000001.jpg 1", "/a/airfield/00000001.jpg 0")
    text(root / "places365_val.txt", "Places365_val_00000001.jpg 1")
    for size, first in {"256": 0, "large": 3}.items():
        image(root / f"data_{size}/f/field/wild/00000001.jpg", first)
        image(root / f"data_{size}/a/airfield/00000001.jpg", first + 1)
        image(root / f"val_{size}/Places365_val_00000001.jpg", first + 2)
    return Places365(root=str(root))


PLACES_365: Listing = [
    ("data_256/a/airfield/00000001.jpg", "train", ["airfield"]),
    ("data_256/f/field/wild/00000001.jpg", "train", ["field/wild"]),
    ("val_256/Places365_val_00000001.jpg", "val", ["field/wild"]),
]


def annotation(path: Path, *objects: tuple[str, int]) -> None:
    part = "<part><name>head</name><bndbox/></part>"
    entries = [
        f"<object><name>{name}</name><difficult>{mark}</difficult>{part}</object>" for name, mark in objects
    ]
    text(path, "<annotation><folder>VOC2007</folder>", *entries, "</annotation>")


def voc07(root: Path) -> PublishedImages:
    home = root / VOC
    text(home / "ImageSets/Main/trainval.txt", "000005", "000007", "000009")
    text(home / "ImageSets/Main/test.txt", "000001", "000002")
    text(home / "ImageSets/Main/dog_test.txt", "000001  1", "000002  0")
    objects: dict[str, list[tuple[str, int]]] = {
        "000005": [("dog", 0), ("dog", 1), ("car", 0)],
        "000007": [("car", 0)],
        "000009": [("dog", 1), ("dog", 1)],
        "000001": [("dog", 0)],
        "000002": [("car", 0), ("dog", 1)],
    }
    for number, (name, found) in enumerate(objects.items()):
        annotation(home / "Annotations" / f"{name}.xml", *found)
        image(home / "JPEGImages" / f"{name}.jpg", number)
    return VOC07(root=str(root))


VOC_07: Listing = [
    (f"{VOC}/JPEGImages/000001.jpg", "test", ["dog"]),
    (f"{VOC}/JPEGImages/000002.jpg", "test", ["car"]),
    (f"{VOC}/JPEGImages/000005.jpg", "train", ["car", "dog"]),
    (f"{VOC}/JPEGImages/000007.jpg", "train", ["car"]),
    (f"{VOC}/JPEGImages/000009.jpg", "train", []),
]

SETS = [
    pytest.param(imagenet, IMAGENET, [0, 1, 2, 3], id="imagenet"),
    pytest.param(inaturalist, INATURALIST, [2, 1, 0], id="inaturalist"),
    pytest.param(places205, PLACES_205, [2, 1, 0], id="places205"),
    pytest.param(places365, PLACES_365, [1, 0, 2], id="places365"),
    pytest.param(voc07, VOC_07, [3, 4, 0, 1, 2], id="voc07"),
]
Make = Callable[[Path], PublishedImages]


def listing(source: PublishedImages) -> Listing:
    table = source.index().table
    return list(zip(*(table[name].to_pylist() for name in ("key", "split", "labels")), strict=True))


def number_of(picture: Any) -> int:
    return round(float(picture.float().mean()) / 20)


@pytest.mark.parametrize(("make", "expected", "shown"), SETS)
def test_every_image_has_its_split_its_label_and_its_pixels(
    make: Make, expected: Listing, shown: list[int], tmp_path: Path
) -> None:
    source = make(tmp_path)
    assert listing(source) == expected
    index = source.index()
    assert None not in index.table["size"].to_pylist()
    assert [number_of(source.image(index, row)) for row in range(len(index))] == shown
    elsewhere = make(tmp_path / "elsewhere")
    assert elsewhere.index().fingerprint == index.fingerprint


@pytest.mark.parametrize(("make", "expected", "shown"), SETS[1:])
def test_an_image_that_is_gone_is_refused_or_skipped(
    make: Make, expected: Listing, shown: list[int], tmp_path: Path
) -> None:
    source = make(tmp_path)
    (tmp_path / expected[1][0]).unlink()
    with pytest.raises(DataError, match=f"1 of {len(expected)} listed samples are not there, the first is "):
        source.index()
    skipping = source.model_copy(update={"on_error": "skip"})
    index = skipping.index()
    assert len(index) == len(expected)
    dataset = SampleDataset(skipping, index, index.no_targets())
    assert [dataset[row][2] for row in range(3)] == [0, ~1, 2]


def test_places365_has_two_sizes(tmp_path: Path) -> None:
    source = places365(tmp_path).model_copy(update={"size": "large"})
    index = source.index()
    assert [number_of(source.image(index, row)) for row in range(3)] == [4, 3, 5]


def test_imagenet9k_is_the_listed_classes_with_test_images_that_stay(tmp_path: Path) -> None:
    classes = ("n00000001", "n00000002", "n00000003")
    names = [f"{label}/{label}_{number}.JPEG" for label in classes for number in range(7)]
    for number, name in enumerate(names):
        image(tmp_path / name, number % 7)
    text(tmp_path / "imagenet_9k.txt", "n00000003 a name", "n00000001")
    source = ImageNet9K(root=str(tmp_path), test_images=2)
    rows = listing(source)
    assert [key for key, _, _ in rows] == names[:7] + names[14:]
    assert all(labels == [key[:9]] for key, _, labels in rows)
    for label in ("n00000001", "n00000003"):
        by_hash = sorted((key for key, _, _ in rows if key.startswith(label)), key=_sha256)
        assert {key for key, split, _ in rows if split == "test" and key.startswith(label)} == {*by_hash[:2]}
    with pytest.raises(DataError, match=r"n00000003/ has 7 images, and 7 of each class are test"):
        source.model_copy(update={"test_images": 7}).index()
    text(tmp_path / "elsewhere.txt", "n00000009")
    with pytest.raises(DataError, match=r"n00000009/ has 0 images.* take it out of .*elsewhere\.txt"):
        source.model_copy(update={"class_list": str(tmp_path / "elsewhere.txt")}).index()
    text(tmp_path / "imagenet_9k.txt", "tench")
    with pytest.raises(DataError, match=r"imagenet_9k\.txt, line 1: 'tench' should be like 'n01440764'"):
        source.index()


def _sha256(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def test_difficult_classes_are_kept_and_belong_to_the_data(tmp_path: Path) -> None:
    source = voc07(tmp_path)
    index = source.index()
    difficult = [[], ["dog"], [], [], ["dog"]]
    assert index.table["difficult"].to_pylist() == difficult
    assert index.has_several_labels
    index.write(tmp_path)
    again = Index.read(tmp_path)
    assert again.table["difficult"].to_pylist() == difficult
    assert again.fingerprint == index.fingerprint
    annotation(tmp_path / VOC / "Annotations/000002.xml", ("car", 0))
    assert source.index().fingerprint != index.fingerprint


COUNTS = {"classes": 2, "train": 3, "test": 2}


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({**COUNTS, "classes": 20}, r"classes 2 \(published: 20\); "),
        (
            {**COUNTS, "train": 5011, "test": 4952},
            r"train 3 \(published: 5,011\), test 2 \(published: 4,952\); ",
        ),
        ({"samples": 4, "val": 1}, r"samples 5 \(published: 4\), val 0 \(published: 1\); "),
    ],
)
def test_other_counts_than_published_are_refused(
    expected: dict[str, int], message: str, tmp_path: Path
) -> None:
    source = voc07(tmp_path)
    assert len(source.model_copy(update={"expected": COUNTS}).index()) == 5
    with pytest.raises(DataError, match=rf"not as published: {message}complete it, or .*expected=null"):
        source.model_copy(update={"expected": expected}).index()


def nodes() -> dict[str, dict[str, Any]]:
    files = sorted((conf_dir() / "target").glob("*.yaml"))
    loaded: dict[str, Any] = {file.stem: OmegaConf.load(file) for file in files}
    return {name: node for name, node in loaded.items() if ".published." in node._target_}


@pytest.mark.parametrize("name", nodes())
def test_every_published_target_says_how_large_it_is(name: str) -> None:
    source = build(nodes()[name], f"target.{name}")
    assert isinstance(source, Published)
    header = (conf_dir() / "target" / f"{name}.yaml").read_text().split("_target_")[0]
    for number in (source.expected or {}).values():
        assert f" {number:,} " in header.replace(",\n", " ")
    assert "classes" in (source.expected or {}) or name == "imagenet_9k"  # whose list is the user's


def test_what_may_be_counted_is_said(tmp_path: Path) -> None:
    node = {**nodes()["voc07"], "expected": {"clases": 20}}
    with pytest.raises(ConfigError, match=r"'classes', 'samples', 'train', 'val' or 'test'"):
        build(node, "target.voc07")


def test_imagenet_lacks_a_split_or_is_not_sorted(tmp_path: Path) -> None:
    source = imagenet(tmp_path)
    flat = tmp_path / "val/ILSVRC2012_val_00000001.JPEG"
    image(flat, 1)
    with pytest.raises(DataError, match=rf"val/{flat.name} lies in no folder of a class; sort the images"):
        source.index()
    (tmp_path / "val").rename(tmp_path / "validation")
    with pytest.raises(DataError, match=r"no image below val/; it holds nXXXXXXXX/\*\.JPEG"):
        source.index()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (inaturalist, "val2018.json"),
        (places205, "trainvalsplit_places205/val_places205.csv"),
        (places365, "places365_val.txt"),
        (places365, "categories_places365.txt"),
        (voc07, f"{VOC}/ImageSets/Main/test.txt"),
        (voc07, f"{VOC}/Annotations/000002.xml"),
    ],
)
def test_a_list_that_is_missing(make: Make, name: str, tmp_path: Path) -> None:
    source = make(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=rf"root=.*: {name} cannot be read \(No such file"):
        source.index()


@pytest.mark.parametrize(
    ("make", "name", "line", "message"),
    [
        (
            places205,
            "trainvalsplit_places205/val_places205.csv",
            "a/abbey/gsun_c.jpg 205",
            "has label 205; there are 205 classes, from 0 to 204",
        ),
        (places205, "trainvalsplit_places205/train_places205.csv", "a/abbey/gsun_c.jpg", "should be like"),
        (
            places365,
            "places365_val.txt",
            "Places365_val_00000001.jpg 2",
            "has label 2, and categories_places365.txt names 2 of them, from 0 to 1",
        ),
        (places365, "categories_places365.txt", "airfield 0", "should be like '/a/airfield 0'"),
        (voc07, f"{VOC}/ImageSets/Main/test.txt", "000001 -1", "should be like '000005'"),
    ],
)
def test_a_line_that_cannot_be_is_shown_with_its_file(
    make: Make, name: str, line: str, message: str, tmp_path: Path
) -> None:
    said = refused_line(make(tmp_path), tmp_path, name, line)
    assert repr(line) in said
    assert message in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": []}, r"Aves/7/01\.jpg has no category, and each image has one of the 2 "),
        ({"annotations": [{"image_id": 5, "category_id": 8142}]}, r"01\.jpg has category 8142, and each "),
        ({"images": [{"id": 5}]}, r"val2018\.json: images\.0\.file_name: Field required"),
        (None, r"val2018\.json: the file: Invalid JSON"),
    ],
)
def test_annotations_of_inaturalist_that_cannot_be(
    change: dict[str, Any] | None, message: str, tmp_path: Path
) -> None:
    source, path = inaturalist(tmp_path), tmp_path / "val2018.json"
    content = path.read_text()
    path.write_text(json.dumps(json.loads(content) | change) if change else content[:-9])
    with pytest.raises(DataError, match=message):
        source.index()


ENTITIES = (
    '<!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {one} "{f"&{before};" * 10}">' for before, one in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]><annotation><object><name>&i;</name></object></annotation>"
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<annotation><object><name>dog</name>", "no element found: line 1, column 36"),
        (b"", "no element found"),
        (b"\xff\xd8 a JPEG", "not well-formed"),
        (b"<annotation><object><pose/></object></annotation>", "an object has no name"),
        (ENTITIES.encode(), "it declares a document type, lolz"),
        (ENTITIES.encode("utf-16"), "it declares a document type, lolz"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/hostname"><annotation/>', "it declares a document type, x"),
    ],
)
def test_xml_that_cannot_be_read_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    source = voc07(tmp_path)
    (tmp_path / VOC / "Annotations/000007.xml").write_bytes(content)
    with pytest.raises(DataError) as caught:
        source.index()
    assert f"{VOC}/Annotations/000007.xml is not an annotation of VOC ({reason}" in str(caught.value)
