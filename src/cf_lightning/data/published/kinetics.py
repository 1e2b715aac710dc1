"""Kinetics-400."""

import posixpath
from collections.abc import Iterator

from cf_lightning.data.containers import File
from cf_lightning.data.published import Listed, PublishedVideos

LINE = r'"?(?P<label>[^",]+)"?,(?P<id>[\w-]{11}),(?P<start>\d+),(?P<end>\d+)(,.*)?'


class Kinetics(PublishedVideos):
    """Kinetics-400 (Kay et al. 2017) as the copy of the CVDF is unpacked by its own scripts.

    ``annotations/{train,val}.csv`` with the columns label, youtube_id, time_start, time_end, split;
    ``{train,val}/ID_SSSSSS_EEEEEE.mp4``, or in class folders below, as torchvision sorts them. A file in
    ``replacement/`` stands for the damaged one of the same video. The labels of test were held back for
    the challenge and results are those on val, so test is left out.
    """

    def listed(self) -> Iterator[Listed]:
        """The videos of train and val."""
        mended = {_name(file)[:11]: file for file in self.below("replacement")}
        for split in ("train", "val"):
            files = {_name(file): file for file in self.below(split)}
            like = "air drumming,_dbcJuKJQNs,40,50," + split
            for row in self.annotations(f"annotations/{split}.csv", LINE, like, header=1):
                name = f"{row['id']}_{int(row['start']):06d}_{int(row['end']):06d}"
                file = mended.get(row["id"]) or files.get(name) or File(f"{split}/{name}.mp4", None)
                yield Listed(file, split, [row["label"]])


def _name(file: File) -> str:
    return posixpath.splitext(posixpath.basename(file.key))[0]
