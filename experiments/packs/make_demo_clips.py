"""Film the demo clips that ship with the package: moving things with noisy hashtags, and a target.

python experiments/packs/make_demo_clips.py src/cf_lightning/data/demo/clips.zip

The things and places of ``make_demo.py`` in twelve motions. Hashtags (``clip_tags.csv``) speak of kinds
of motions and kinds of shapes, with much noise. The target (``actions.csv``) asks which motion it is.
"""

import argparse
from pathlib import Path

import numpy as np
from films import encode, film, moments
from hashtags import THINGS, hashtags
from make_demo import one_of, splits
from motions import MOTIONS
from numpy.typing import NDArray
from pack import Row, write_pack
from pictures import MOODS
from places import PLACES
from things import SHAPES, TEXTURES

SEED = 21
TAGGED = {"train": 480, "val": 48}
TARGET = {"train": 240, "test": 156}  # 20 and 13 of each motion
# what people say of a motion, in synonyms, the first the most common; never the motion itself
DOINGS = {
    "slides rises falls": "onmyway go moving",
    "spins swings circles": "turning dizzy carousel",
    "bounces shakes pulses": "dance beat workout",
    "grows shrinks blinks": "magic trick wow",
}

Clip = tuple[NDArray[np.uint8], NDArray[np.int64], Row]


def clip(part: int, number: int) -> Clip:
    """Clip ``number`` of the tagged set (part 0) or the target (1): frames, times in ticks, attributes.

    Motions take turns, the rest is chance.
    """
    random = np.random.default_rng([SEED, part, number])
    motion = list(MOTIONS)[number % len(MOTIONS)]
    shape, texture, mood, place = (one_of(random, names) for names in (SHAPES, TEXTURES, MOODS, PLACES))
    tags = hashtags(random, {motion: DOINGS, shape: THINGS})
    ticks = moments(random)
    frames = film(random, ticks, shape=shape, texture=texture, mood=mood, place=place, motion=motion)
    return frames, ticks, {"tags": " ".join(tags), "label": motion}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, help="the zip file to write")
    out = parser.parse_args().out
    clips: list[tuple[str, bytes]] = []
    tables: dict[str, list[Row]] = {"clip_tags.csv": [], "actions.csv": []}
    for part, (table, counts, column) in enumerate(
        (("clip_tags.csv", TAGGED, "tags"), ("actions.csv", TARGET, "label"))
    ):
        for number, split in splits(counts):
            frames, ticks, row = clip(part, number)
            path = f"{table.removesuffix('.csv')}/{number:06d}.mp4"
            clips.append((path, encode(frames, ticks)))
            tables[table].append({"path": path, "split": split, column: row[column]})
    write_pack(out, clips, tables)


if __name__ == "__main__":
    main()
