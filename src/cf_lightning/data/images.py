"""``ImageDataModule``: images with their rows, for any ``lightning.Trainer``."""

from cf_lightning.data.image_source import ImageSource
from cf_lightning.data.module import SampleDataModule


class ImageDataModule(SampleDataModule):
    """Batches ``(images, targets, index)`` of an ``ImageSource``.

    Images are (B, 3, crop, crop) uint8, targets int64, index (B,) int64: the row of each sample,
    ``~row`` where it could not be decoded. It works alone::

        data = ImageDataModule(FolderImages(root="pictures"), batch_size=64)
        trainer.fit(classifier, data)

    Args: see ``SampleDataModule``.
    """

    source: ImageSource
