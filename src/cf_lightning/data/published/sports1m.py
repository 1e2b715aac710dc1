"""Sports-1M."""

import posixpath
from collections.abc import Iterator

from cf_lightning.data.containers import File
from cf_lightning.data.published import Listed, PublishedVideos
from cf_lightning.errors import DataError

LINE = r"\S+[?&]v=(?P<id>[\w-]{11})\S* (?P<label>\d+)(,\d+)*"
LIKE = "https://www.youtube.com/watch?v=UDqivjS-lpI 168,169"


class Sports1M(PublishedVideos):
    """Sports-1M (Karpathy et al. 2014): the repository of its lists, and the videos beside them.

    ``original/{train,test}_partition.txt`` with a URL and its labels on each line; ``labels.txt``, the
    names of the labels, counted from 0; ``videos/YOUTUBEID`` with any suffix of a video, the first by
    name where there are several. A video of several labels has the first of them; Karpathy et al. count
    a hit where any of them is met, so their numbers are a little higher than what is measured here.
    """

    def listed(self) -> Iterator[Listed]:
        """The videos of train and test."""
        names = [row[0] for row in self.annotations("labels.txt", r".+", "")]
        files = {posixpath.basename(file.key).split(".")[0]: file for file in reversed(self.below("videos"))}
        for split in ("train", "test"):
            partition = f"original/{split}_partition.txt"
            for row in self.annotations(partition, LINE, LIKE):
                if int(row["label"]) >= len(names):
                    raise DataError(
                        f"root={self.root}: {partition}: {row[0]!r} has label {row['label']}, and labels.txt "
                        f"names {len(names)} of them, from 0 to {len(names) - 1}"
                    )
                file = files.get(row["id"]) or File(f"videos/{row['id']}.mp4", None)
                yield Listed(file, split, [names[int(row["label"])]])
