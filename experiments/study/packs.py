"""The packs as data and as targets: which images teacher and student see, and on what they are compared."""

import csv
import io
import zipfile
from pathlib import Path

TINY_IMAGENET, CALTECH, COCO = "tinyimagenet_a100_64.zip", "caltech101_72.zip", "coco_tags_64.zip"
SIZE = ("resize=40", "crop=32")


def known_classes(packs: Path, work: Path) -> tuple[str, ...]:
    """D_cf: every other class of Tiny-ImageNet's pack, 50 classes of 200 training images."""
    root = f"data.root={packs / TINY_IMAGENET}"
    manifest = f"data.manifest={work / 'known.csv'}"
    return ("data=manifest", root, manifest, *(f"data.view.{side}" for side in SIZE))


def tagged_photos(packs: Path) -> tuple[str, ...]:
    """D_cf: COCO's 15,000 photos with the tags of their captions."""
    return ("data=tags", f"data.root={packs / COCO}", *(f"data.view.{side}" for side in SIZE))


def targets(names: list[str], packs: Path, work: Path) -> tuple[str, ...]:
    """Data sets to compare on, at the size of the training.

    Args:
        names: of ``caltech101``, ``coco_objects``, ``tiny_imagenet`` (its 100 classes), ``other_classes``
            (the 50 that ``known_classes`` leaves out), ``own_classes`` (those with their true labels, and
            another 25 images of each to test on).
        packs: their folder.
        work: the folder of the manifests.
    """
    roots = {"caltech101": CALTECH, "coco_objects": COCO}
    overrides = []
    for name in names:
        option = name if name in (*roots, "tiny_imagenet") else "tiny_imagenet"
        place = f"target.{name}"
        overrides += [f"+target@{place}={option}"] if option != name else []
        overrides += [f"{place}.root={packs / roots.get(name, TINY_IMAGENET)}"]
        overrides += [f"{place}.view.{side}" for side in SIZE]
        if option != name:
            overrides += [f"{place}.manifest={work / MANIFESTS[name]}"]
    plain = [name for name in names if name not in MANIFESTS]
    return (f"target=[{','.join(plain)}]", *overrides)


MANIFESTS = {"other_classes": "other.csv", "own_classes": "known.csv"}


def write_manifests(packs: Path, work: Path) -> None:
    """Every other class of the pack is known to teacher and student, the rest is a target.

    A known class has 200 training images, and 25 for the curve; another has 100, and 125 to test on.
    """
    with zipfile.ZipFile(packs / TINY_IMAGENET) as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("index.csv"), "utf-8")))
    known = set(sorted({row["label"] for row in rows})[::2])
    seen: dict[str, int] = {}
    other = []
    for row in sorted((row for row in rows if row["label"] not in known), key=lambda row: row["path"]):
        seen[row["label"]] = seen.get(row["label"], 0) + 1
        other.append({**row, "split": "train" if seen[row["label"]] <= 100 else "test"})
    work.mkdir(parents=True, exist_ok=True)
    for name, chosen in (("known", [row for row in rows if row["label"] in known]), ("other", other)):
        with open(work / f"{name}.csv", "w", newline="") as file:
            table = csv.DictWriter(file, ("path", "split", "label"), lineterminator="\n")
            table.writeheader()
            table.writerows(chosen)
