"""Images or videos in class folders."""

import pyarrow as pa

from cf_lightning.data.containers import list_files, sample_table
from cf_lightning.data.image_source import ImageSource
from cf_lightning.data.index import SPLIT_NAMES
from cf_lightning.data.source import Source
from cf_lightning.data.video_source import VideoSource
from cf_lightning.errors import DataError


class Folder(Source):
    """``root/<class>/...``, or ``root/{train,val,test}/<class>/...``; root is a folder or a zip.

    The label of a sample is the name of its class folder; samples outside of class folders have none.
    Without split folders all samples are train, and ``holdout`` of them become val. Rows are sorted by
    path; hidden files and whatever does not end like a sample are not listed.
    """

    def list_samples(self) -> pa.Table:
        """One row for each file."""
        files = list_files(self.folder(), self.SUFFIXES)
        if not files:
            raise DataError(
                f"root={self.root}: no {self.GIVES} below it ({' '.join(self.SUFFIXES)}); "
                f"it should hold CLASS/FILE, or train/CLASS/FILE and test/CLASS/FILE"
            )
        keys = [file.key for file in files]
        splits = split_by_folder(keys, f"root={self.root}")
        depth = 0 if splits is None else 1
        classes = [key.split("/")[depth:-1][:1] for key in keys]
        return sample_table(files, splits or ["train"] * len(keys), classes, [[]] * len(keys))


class FolderImages(ImageSource, Folder):
    """Images in class folders."""


class FolderVideos(VideoSource, Folder):
    """Videos in class folders."""


def split_by_folder(keys: list[str], origin: str) -> list[str] | None:
    """The split that the first folder of each path names, or ``None`` where none of them does.

    Raises:
        DataError: some paths begin with a split and some do not.
    """
    first = [key.split("/", 1)[0] if "/" in key else "" for key in keys]
    if not SPLIT_NAMES.keys() & set(first):
        return None
    for key, name in zip(keys, first, strict=True):
        if name not in SPLIT_NAMES:
            raise DataError(
                f"{origin}: {key} lies beside the folders of splits; put every file below train/, val/ or "
                f"test/, or rename these folders if they are classes"
            )
    return [SPLIT_NAMES[name] for name in first]
