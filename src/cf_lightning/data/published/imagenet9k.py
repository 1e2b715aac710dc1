"""ImageNet-9K."""

import hashlib
from collections.abc import Iterator

from pydantic import Field

from cf_lightning.data.containers import File
from cf_lightning.data.published import Listed, PublishedImages
from cf_lightning.errors import DataError


class ImageNet9K(PublishedImages):
    """Listed classes of ImageNet-22K (Deng et al. 2009): ``nXXXXXXXX/*.JPEG``, and a list of WordNet ids.

    Neither the 9,000 classes nor the split of Mahajan et al. 2018 and of ClusterFit are published. 450,000
    test images are 50 of each class: test are the 50 whose names have the smallest sha256, so that they stay
    the same whatever else is there.

    Attributes:
        class_list: a file below the root, or an absolute path, with a WordNet id on each line.
        test_images: of each class.
    """

    class_list: str = "imagenet_9k.txt"
    test_images: int = Field(default=50, ge=1)

    def listed(self) -> Iterator[Listed]:
        """The images of the listed classes."""
        for row in self.annotations(self.class_list, r"(n\d{8})\b.*", "n01440764"):
            files = sorted(self.below(row[1]), key=_hashed)
            if len(files) <= self.test_images:
                raise DataError(
                    f"root={self.root}: {row[1]}/ has {len(files)} images, and {self.test_images} of each "
                    f"class are test (test_images); unpack it or take it out of {self.class_list}"
                )
            for number, file in enumerate(files):
                yield Listed(file, "test" if number < self.test_images else "train", [row[1]])


def _hashed(file: File) -> bytes:
    return hashlib.sha256(file.key.encode()).digest()
