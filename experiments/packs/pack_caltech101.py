"""Caltech-101 as a pack: 101 classes, 72 px JPEGs, two thirds of each class train, the rest test.

Download 101_ObjectCategories from https://data.caltech.edu/records/mzrjq-6wc02, then

python experiments/packs/pack_caltech101.py 101_ObjectCategories caltech101_72.zip
"""

import argparse
from pathlib import Path

from pack import Row, shrink, shuffled, write_pack

NO_CLASS = "BACKGROUND_Google"


def rows(root: Path, seed: int) -> list[Row]:
    """The index: each class is shuffled by itself, the first two thirds are train."""
    table: list[Row] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and path.name != NO_CLASS):
        names = shuffled((file.name for file in folder.glob("*.jpg")), f"{seed} {folder.name}")
        for number, name in enumerate(names):
            split = "train" if number < round(len(names) * 2 / 3) else "test"
            table.append({"path": f"{split}/{folder.name}/{name}", "split": split, "label": folder.name})
    return sorted(table, key=lambda row: row["path"])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("root", type=Path, help="the folder 101_ObjectCategories")
    parser.add_argument("out", type=Path, help="the zip file to write")
    parser.add_argument("--short-side", type=int, default=72, help="pixels")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    args = parser.parse_args(arguments)
    table = rows(args.root, args.seed)
    files = {row["path"]: args.root / row["label"] / Path(row["path"]).name for row in table}
    images = ((path, shrink(file, args.short_side)) for path, file in files.items())
    write_pack(args.out, images, {"index.csv": table})


if __name__ == "__main__":
    main()
