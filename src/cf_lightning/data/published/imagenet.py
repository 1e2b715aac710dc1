"""ImageNet-1K."""

from collections.abc import Iterator

from cf_lightning.data.published import Listed, PublishedImages
from cf_lightning.errors import DataError


class ImageNet(PublishedImages):
    """ImageNet-1K (Russakovsky et al. 2015), ILSVRC2012 with its val images sorted like those of train.

    ``{train,val}/nXXXXXXXX/*.JPEG``; a class is called by its WordNet id. The labels of test are not
    published: it is left out.
    """

    def listed(self) -> Iterator[Listed]:
        """The images of train and val."""
        for split in ("train", "val"):
            files = self.below(split)
            if not files:
                raise DataError(f"root={self.root}: no image below {split}/; it holds nXXXXXXXX/*.JPEG")
            for file in files:
                _, *folders, _ = file.key.split("/")
                if not folders:
                    raise DataError(
                        f"root={self.root}: {file.key} lies in no folder of a class; sort the images of "
                        f"{split} into {split}/nXXXXXXXX/ (valprep.sh of imagenetloader.torch does)"
                    )
                yield Listed(file, split, folders[:1])
