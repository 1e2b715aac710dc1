"""Half of Tiny-ImageNet as a pack: 100 classes, 64 px, 200 train and 25 val images of each.

Download https://cs231n.stanford.edu/tiny-imagenet-200.zip, unpack it, then

python experiments/packs/pack_tiny_imagenet.py tiny-imagenet-200 tinyimagenet_a100_64.zip
"""

import argparse
from pathlib import Path

from pack import Row, write_pack


def sources(root: Path, train: int, val: int) -> dict[str, tuple[Path, Row]]:
    """File and row of each member of the pack: the even-indexed classes, of each the first images by name."""
    validation: dict[str, list[Path]] = {}
    for line in (root / "val" / "val_annotations.txt").read_text().splitlines():
        name, wnid, *_ = line.split("\t")
        validation.setdefault(wnid, []).append(root / "val" / "images" / name)
    chosen: dict[str, tuple[Path, Row]] = {}
    for wnid in sorted((root / "wnids.txt").read_text().split())[::2]:
        files = sorted((root / "train" / wnid / "images").glob("*.JPEG"))[:train]
        for split, members in (("train", files), ("val", sorted(validation[wnid])[:val])):
            for file in members:
                path = f"{split}/{wnid}/{file.name}"
                chosen[path] = file, {"path": path, "split": split, "label": wnid}
    return chosen


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("root", type=Path, help="the folder tiny-imagenet-200")
    parser.add_argument("out", type=Path, help="the zip file to write")
    parser.add_argument("--train", type=int, default=200, help="images of a class")
    parser.add_argument("--val", type=int, default=25, help="images of a class")
    args = parser.parse_args(arguments)
    chosen = sources(args.root, args.train, args.val)
    images = ((path, file.read_bytes()) for path, (file, _) in chosen.items())
    write_pack(args.out, images, {"index.csv": [row for _, row in chosen.values()]})


if __name__ == "__main__":
    main()
