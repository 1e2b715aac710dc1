"""Places365-Standard."""

from collections.abc import Iterator
from typing import Literal

from cf_lightning.data.published import Listed, PublishedImages
from cf_lightning.errors import DataError

NAMES = "categories_places365.txt"
LISTS = {"train": "places365_train_standard.txt", "val": "places365_val.txt"}


class Places365(PublishedImages):
    """Places365-Standard (Zhou et al. 2017): its archives and those of its lists, unpacked side by side.

    ``categories_places365.txt`` with a class and its number on each line;
    ``places365_{train_standard,val}.txt`` with ``PATH LABEL``; train images below ``data_256/`` or
    ``data_large/``, those of val in ``val_256/`` or ``val_large/``. The labels of test are not published: it
    is left out. A class is called by its name without the letter before it, such as ``airfield``.

    Attributes:
        size: of the images, ``256`` x 256 px or ``large`` with a short side of at most 512 px.
    """

    size: Literal["256", "large"] = "256"

    def listed(self) -> Iterator[Listed]:
        """The images of train and val."""
        rows = self.annotations(NAMES, r"/\w/(\S+) (\d+)", "/a/airfield 0")
        names = {int(row[2]): row[1] for row in rows}
        for split, folder in (("train", "data"), ("val", "val")):
            for row in self.annotations(LISTS[split], r"/?(\S+) (\d+)", "/a/airfield/00000001.jpg 0"):
                if int(row[2]) not in names:
                    raise DataError(
                        f"root={self.root}: {LISTS[split]}: {row[0]!r} has label {row[2]}, and {NAMES} names "
                        f"{len(names)} of them, from 0 to {len(names) - 1}"
                    )
                yield Listed(self.file(f"{folder}_{self.size}/{row[1]}"), split, [names[int(row[2])]])
