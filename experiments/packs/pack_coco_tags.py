"""COCO photos with hashtags made of their captions as a pack: 15,000 photos, 64 px short side.

Download train2017.zip and annotations_trainval2017.zip from https://cocodataset.org, unpack them, then

python experiments/packs/pack_coco_tags.py train2017 annotations coco_tags_64.zip

A photo's tags are the words of one of its captions that are no stop words and that enough captions have:
noisy and incomplete, as hashtags are. Photos with a road user, an animal or street furniture (the first 18
categories of COCO) are candidates. Every photo is train; ``data.holdout`` sets a share aside.
"""

import argparse
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from pack import Row, shrink, shuffled, write_pack

LAST_CATEGORY = 19  # person to horse; COCO leaves number 12 free
STOP_WORDS = """
a about above across after along also among an and another are around as at away back be behind
being below beside between both by close down during each few for from front has have having he her
his holding in inside into is it its just looking many more near next no of off on one onto or other
out outside over past picture several she showing shown sits sitting some stand standing stands that
the their them there these they this three through to together top toward towards two under up very
view was were what which while who with
"""


def objects(instances: dict[str, Any]) -> dict[int, list[str]]:
    """The names of the wanted categories on each photo, by image id; photos with none are left out."""
    wanted = [category for category in instances["categories"] if category["id"] <= LAST_CATEGORY]
    names = {category["id"]: category["name"].replace(" ", "_") for category in wanted}
    found: dict[int, set[int]] = {}
    for item in instances["annotations"]:
        if item["category_id"] in names:
            found.setdefault(item["image_id"], set()).add(item["category_id"])
    return {image: [names[number] for number in sorted(numbers)] for image, numbers in found.items()}


def words(caption: str) -> list[str]:
    """The distinct words of a caption that could be tags, in alphabetical order."""
    stop_words = STOP_WORDS.split()
    return sorted({word for word in re.findall(r"[a-z]{3,}", caption.lower()) if word not in stop_words})


def rows(instances: dict[str, Any], captions: dict[str, Any], count: int, min_count: int) -> dict[str, Row]:
    """File name and row of each chosen photo; of a photo's captions the first in the file speaks."""
    labels = objects(instances)
    first: dict[int, str] = {}
    for item in captions["annotations"]:
        first.setdefault(item["image_id"], " ".join(item["caption"].split()))
    files = {str(image["file_name"]): int(image["id"]) for image in captions["images"]}
    candidates = [name for name, image in files.items() if image in labels and image in first]
    chosen = sorted(shuffled(candidates, "coco tags")[:count])
    common = Counter(word for name in chosen for word in words(first[files[name]]))
    table: dict[str, Row] = {}
    for number, name in enumerate(chosen):
        caption = first[files[name]]
        table[name] = {
            "path": f"train/{number:05d}.jpg",
            "split": "train",
            "labels": " ".join(labels[files[name]]),
            "tags": " ".join(word for word in words(caption) if common[word] >= min_count),
            "caption": caption,
        }
    return table


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", type=Path, help="the folder train2017")
    parser.add_argument("annotations", type=Path, help="the folder of the JSON files")
    parser.add_argument("out", type=Path, help="the zip file to write")
    parser.add_argument("--count", type=int, default=15_000, help="photos")
    parser.add_argument("--min-count", type=int, default=20, help="captions that have a word that is a tag")
    parser.add_argument("--short-side", type=int, default=64, help="pixels")
    args = parser.parse_args(arguments)
    instances = json.loads((args.annotations / "instances_train2017.json").read_text())
    captions = json.loads((args.annotations / "captions_train2017.json").read_text())
    table = rows(instances, captions, args.count, args.min_count)
    images = ((row["path"], shrink(args.photos / name, args.short_side)) for name, row in table.items())
    write_pack(args.out, images, {"tags.csv": list(table.values())})


if __name__ == "__main__":
    main()
