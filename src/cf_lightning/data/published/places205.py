"""Places205."""

from collections.abc import Iterator

from cf_lightning.data.published import Listed, PublishedImages
from cf_lightning.errors import DataError

CLASSES = 205
IMAGES = "data/vision/torralba/deeplearning/images256"
LISTS = "trainvalsplit_places205"


class Places205(PublishedImages):
    """Places205 (Zhou et al. 2014): the archives of the resized images and of the split, side by side.

    ``trainvalsplit_places205/{train,val}_places205.csv`` with ``PATH LABEL`` on each line, and the images of
    both below ``data/vision/torralba/deeplearning/images256/``. The archives have no list of names: a class
    is called by its number, ``000`` to ``204``.
    """

    def listed(self) -> Iterator[Listed]:
        """The images of train and val."""
        for split in ("train", "val"):
            name = f"{LISTS}/{split}_places205.csv"
            for row in self.annotations(name, r"(\S+) (\d+)", "a/abbey/gsun_0a1b.jpg 0"):
                if int(row[2]) >= CLASSES:
                    raise DataError(
                        f"root={self.root}: {name}: {row[0]!r} has label {row[2]}; there are {CLASSES} "
                        f"classes, from 0 to {CLASSES - 1}"
                    )
                yield Listed(self.file(f"{IMAGES}/{row[1]}"), split, [f"{int(row[2]):03d}"])
