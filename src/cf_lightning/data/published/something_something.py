"""Something-Something V1."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from cf_lightning.data.containers import File
from cf_lightning.data.index import Index
from cf_lightning.data.published import Listed, PublishedVideos
from cf_lightning.errors import DataError

if TYPE_CHECKING:
    from cf_lightning.data.video.base import Video

FPS = 12.0  # at which the frames were taken from the videos before they were published
FRAMES = "20bn-something-something-v1"
LISTS = {"train": "something-something-v1-train.csv", "val": "something-something-v1-validation.csv"}


class SomethingSomethingV1(PublishedVideos):
    """Something-Something V1 (Goyal et al. 2017): its archives, unpacked side by side.

    ``something-something-v1-{labels,train,validation}.csv``, the latter two with ``ID;LABEL`` on each
    line, and ``20bn-something-something-v1/ID/00001.jpg``: frames, 12 for each second. The labels of test
    are not published: it is left out. The size of a video is that of its frames together.
    """

    decoder: Literal["auto"] = "auto"  # frames are images: there is no other

    def listed(self) -> Iterator[Listed]:
        """The videos of train and validation."""
        rows = self.annotations("something-something-v1-labels.csv", r".+", "")
        labels = {row[0] for row in rows}
        for split, name in LISTS.items():
            for row in self.annotations(name, r"(\d+);(.+)", "100218;Something falling like a rock"):
                if row[2] not in labels:
                    raise DataError(
                        f"root={self.root}: {name}: {row[0]!r} has a label that "
                        f"something-something-v1-labels.csv does not name"
                    )
                yield Listed(self._frames(f"{FRAMES}/{row[1]}"), split, [row[2]])

    def open(self, index: Index, row: int) -> "Video":
        """The frames of one video.

        Raises:
            OSError: the folder is missing.
            ValueError: there is no frame in it.
        """
        from cf_lightning.data.video.jpeg_frames import JpegFrames

        folder = self.folder() / index.key(row)
        return JpegFrames(folder, FPS, self.view.resize, self.view.interpolation, self.MAX_PIXELS)

    def _frames(self, key: str) -> File:
        """The folder of a video, as large as the files in it."""
        try:
            with os.scandir(f"{self.folder()}/{key}") as entries:
                return File(key, sum(entry.stat().st_size for entry in entries))
        except OSError:
            return File(key, None)
