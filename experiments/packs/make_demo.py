"""Draw the demo data that ships with the package: pictures with noisy hashtags, and two targets.

python experiments/packs/make_demo.py src/cf_lightning/data/demo/demo.zip

A world of eight shapes, three textures, four moods of colour and eight places. Hashtags (``tags.csv``)
speak of kinds of shapes, moods and kinds of places, with much noise. The targets ask for more: which
shape in which texture (``species.csv``, 24 classes), and which place (``scenes.csv``, 8 classes).
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from hashtags import MOODS as MOOD_WORDS
from hashtags import PLACES as PLACE_WORDS
from hashtags import THINGS, hashtags
from numpy.typing import NDArray
from pack import Row, encode, write_pack
from pictures import MOODS, draw
from PIL import Image
from places import PLACES
from things import SHAPES, TEXTURES

SEED, QUALITY = 20, 85
TAGGED = {"train": 2400, "val": 240}
TARGET = {"train": 600, "test": 408}  # 25 and 17 of each species
SPECIES = [(shape, texture) for shape in SHAPES for texture in TEXTURES]

Picture = tuple[NDArray[np.uint8], Row]


def tagged(number: int) -> Picture:
    """Picture ``number`` of the tagged set: pixels and attributes, its hashtags among them."""
    random = np.random.default_rng([SEED, 0, number])
    shape, texture, mood, place = (one_of(random, names) for names in (SHAPES, TEXTURES, MOODS, PLACES))
    pixels = draw(random, shape=shape, texture=texture, mood=mood, place=place)
    return pixels, {"tags": " ".join(hashtags(random, {shape: THINGS, mood: MOOD_WORDS, place: PLACE_WORDS}))}


def target(number: int) -> Picture:
    """Picture ``number`` of the targets: pixels and attributes; species take turns, the rest is chance."""
    random = np.random.default_rng([SEED, 1, number])
    shape, texture = SPECIES[number % len(SPECIES)]
    mood, place = one_of(random, MOODS), one_of(random, PLACES)
    pixels = draw(random, shape=shape, texture=texture, mood=mood, place=place)
    return pixels, {"species": f"{texture}_{shape}", "scenes": place}


def one_of(random: np.random.Generator, names: Iterable[str]) -> str:
    return str(random.choice(list(names)))


def splits(counts: dict[str, int]) -> Iterator[tuple[int, str]]:
    """Numbers and splits of a set."""
    yield from enumerate(split for split, count in counts.items() for _ in range(count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, help="the zip file to write")
    images: list[tuple[str, bytes]] = []
    tables: dict[str, list[Row]] = {"tags.csv": [], "species.csv": [], "scenes.csv": []}
    out = parser.parse_args().out
    for number, split in splits(TAGGED):
        pixels, row = tagged(number)
        path = f"tags/{number:06d}.jpg"
        images.append((path, encode(Image.fromarray(pixels), QUALITY)))
        tables["tags.csv"].append({"path": path, "split": split, "tags": row["tags"]})
    for number, split in splits(TARGET):
        pixels, row = target(number)
        path = f"target/{number:06d}.jpg"
        images.append((path, encode(Image.fromarray(pixels), QUALITY)))
        for name, label in row.items():
            tables[f"{name}.csv"].append({"path": path, "split": split, "label": label})
    write_pack(out, images, tables)


if __name__ == "__main__":
    main()
