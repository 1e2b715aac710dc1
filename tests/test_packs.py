import csv
import importlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from cf_lightning.data.manifest import ManifestImages

SCRIPTS = Path(__file__).resolve().parents[1] / "experiments" / "packs"
Script = Callable[[str], ModuleType]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


def photo(file: Path, width: int = 100, height: int = 80, mode: str = "RGB") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(file.name)).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(file, "JPEG")


def read(pack: Path, table: str) -> list[dict[str, str]]:
    with zipfile.ZipFile(pack) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        return list(csv.DictReader(io.TextIOWrapper(archive.open(table), "utf-8")))


def test_caltech101_is_split_within_each_class(script: Script, tmp_path: Path) -> None:
    root = tmp_path / "101_ObjectCategories"
    for name, count in (("ant", 9), ("bass", 7), ("BACKGROUND_Google", 3)):
        for number in range(count):
            photo(root / name / f"image_{number:04d}.jpg", mode="L" if number == 1 else "RGB")
    pack, again = tmp_path / "a.zip", tmp_path / "b.zip"
    for out in (pack, again):
        script("pack_caltech101").main([str(root), str(out)])
    counts = Counter((row["label"], row["split"]) for row in read(pack, "index.csv"))
    assert counts == {("ant", "train"): 6, ("ant", "test"): 3, ("bass", "train"): 5, ("bass", "test"): 2}
    assert pack.read_bytes() == again.read_bytes()
    source = ManifestImages(root=str(pack), manifest="index.csv")
    index = source.index()
    assert index.classes == ["ant", "bass"]
    assert {tuple(source.image(index, row).shape) for row in range(len(index))} == {(3, 72, 90)}


def test_tiny_imagenet_takes_every_other_class(script: Script, tmp_path: Path) -> None:
    root = tmp_path / "tiny-imagenet-200"
    wnids = ["n01", "n02", "n03"]
    for wnid in wnids:
        for number in range(4):
            photo(root / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", 64, 64)
    lines = []
    for number in range(9):
        photo(root / "val" / "images" / f"val_{number}.JPEG", 64, 64)
        lines.append(f"val_{number}.JPEG\t{wnids[number % 3]}\t0\t0\t9\t9\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("n03\nn01\nn02\n")
    pack = tmp_path / "tiny.zip"
    script("pack_tiny_imagenet").main([str(root), str(pack), "--train", "3", "--val", "2"])
    rows = read(pack, "index.csv")
    assert Counter((row["label"], row["split"]) for row in rows) == {
        (wnid, split): count for wnid in ("n01", "n03") for split, count in (("train", 3), ("val", 2))
    }
    assert [row["path"] for row in rows if row["label"] == "n03" and row["split"] == "val"] == [
        "val/n03/val_2.JPEG",
        "val/n03/val_5.JPEG",
    ]
    with zipfile.ZipFile(pack) as archive:
        original = root / "train" / "n01" / "images" / "n01_0.JPEG"
        assert archive.read("train/n01/n01_0.JPEG") == original.read_bytes()


def test_coco_captions_become_tags(script: Script, tmp_path: Path) -> None:
    captions = {
        1: "A dog, on the beach\nwith a Frisbee.",
        2: "The dog is sitting on a beach",
        3: "Two dogs near a zeppelin",
        4: "A bowl of soup",
    }
    for image in captions:
        photo(tmp_path / "train2017" / f"{image:012d}.jpg", 80, 200)
    annotations = tmp_path / "annotations"
    annotations.mkdir()
    instances = {
        "categories": [
            {"id": 18, "name": "dog"},
            {"id": 10, "name": "traffic light"},
            {"id": 51, "name": "bowl"},
        ],
        "annotations": [
            {"image_id": image, "category_id": category}
            for image, category in ((1, 18), (1, 18), (1, 10), (2, 18), (3, 18), (4, 51))
        ],
    }
    texts = [{"image_id": image, "caption": caption} for image, caption in captions.items()]
    speech = {
        "images": [{"id": image, "file_name": f"{image:012d}.jpg"} for image in captions],
        "annotations": [*texts, {"image_id": 1, "caption": "zeppelin zeppelin"}],
    }
    (annotations / "instances_train2017.json").write_text(json.dumps(instances))
    (annotations / "captions_train2017.json").write_text(json.dumps(speech))
    pack = tmp_path / "coco.zip"
    script("pack_coco_tags").main(
        [str(tmp_path / "train2017"), str(annotations), str(pack), "--min-count", "2"]
    )
    rows = read(pack, "tags.csv")
    assert [row["tags"] for row in rows] == ["beach dog", "beach dog", ""]
    assert [row["labels"] for row in rows] == ["traffic_light dog", "dog", "dog"]
    assert rows[0]["caption"] == "A dog, on the beach with a Frisbee."
    source = ManifestImages(root=str(pack), manifest="tags.csv")
    index = source.index()
    assert tuple(source.image(index, 0).shape) == (3, 160, 64)


def test_the_wrong_folder_is_refused(script: Script, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no image was found"):
        script("pack_caltech101").main([str(tmp_path), str(tmp_path / "out.zip")])
    assert not list(tmp_path.iterdir())


def test_a_pack_that_fails_has_no_name(script: Script, tmp_path: Path) -> None:
    root = tmp_path / "classes"
    photo(root / "ant" / "good.jpg")
    (root / "ant" / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(OSError, match="identify"):
        script("pack_caltech101").main([str(root), str(tmp_path / "out.zip")])
    assert not (tmp_path / "out.zip").exists()
