"""UCF-101."""

from collections.abc import Iterator

from pydantic import Field

from cf_lightning.data.published import Listed, PublishedVideos
from cf_lightning.errors import DataError

LINE = r"(?P<path>(?P<label>[^/]+)/[^/]+\.avi)(\s+(?P<number>\d+))?"
LIKE = "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1"


class UCF101(PublishedVideos):
    """UCF-101 (Soomro et al. 2012): its two archives, unpacked side by side.

    ``UCF-101/CLASS/v_CLASS_gXX_cXX.avi``, and ``ucfTrainTestlist/`` with ``classInd.txt`` and the lists of
    three folds, ``trainlist0N.txt`` and ``testlist0N.txt``, of which the latter name no number of a class.

    Attributes:
        fold: which of the three ways to split; the field reports the first, or the mean of the three.
    """

    fold: int = Field(default=1, ge=1, le=3)

    def listed(self) -> Iterator[Listed]:
        """The videos of train and test."""
        rows = self.annotations("ucfTrainTestlist/classInd.txt", r"(\d+) (\S+)", "1 ApplyEyeMakeup")
        numbers = {row[2]: row[1] for row in rows}
        for split in ("train", "test"):
            name = f"ucfTrainTestlist/{split}list{self.fold:02d}.txt"
            for row in self.annotations(name, LINE, LIKE):
                number = numbers.get(row["label"])
                if number is None or row["number"] not in (None, number):
                    known = f"number {number}" if number else "no class"
                    raise DataError(
                        f"root={self.root}: {name}: {row[0]!r} is not what classInd.txt says, where "
                        f"{row['label']} is {known}; take both from the same archive"
                    )
                yield Listed(self.file(f"UCF-101/{row['path']}"), split, [row["label"]])
