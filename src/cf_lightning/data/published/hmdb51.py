"""HMDB-51."""

from collections.abc import Iterator

from pydantic import Field

from cf_lightning.data.published import Listed, PublishedVideos
from cf_lightning.errors import DataError

SPLITS = {"1": "train", "2": "test"}  # and 0 is not used
LISTS = "testTrainMulti_7030_splits"


class HMDB51(PublishedVideos):
    """HMDB-51 (Kuehne et al. 2011): its archives, the one of each class too, unpacked side by side.

    ``CLASS/NAME.avi``, and ``testTrainMulti_7030_splits/CLASS_test_splitN.txt`` with a name on each line
    and what it is in this fold: 1 train, 2 test, 0 not used, so that each class has 70 and 30 videos.

    Attributes:
        fold: which of the three ways to split; the field reports the first, or the mean of the three.
    """

    fold: int = Field(default=1, ge=1, le=3)

    def listed(self) -> Iterator[Listed]:
        """The videos of train and test."""
        ending = f"_test_split{self.fold}.txt"
        lists = sorted(path.name for path in (self.folder() / LISTS).glob(f"*{ending}"))
        if not lists:
            raise DataError(f"root={self.root}: there is no {LISTS}/CLASS{ending}")
        for name in lists:
            label = name.removesuffix(ending)
            for row in self.annotations(f"{LISTS}/{name}", r"(.+\.avi)\s+([012])", "NAME.avi 1"):
                if row[2] in SPLITS:
                    yield Listed(self.file(f"{label}/{row[1]}"), SPLITS[row[2]], [label])
