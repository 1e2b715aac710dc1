"""``VideoClipDataModule``: clips of videos with the videos' rows, for any ``lightning.Trainer``."""

from cf_lightning.data.module import SampleDataModule
from cf_lightning.data.video_source import VideoSource


class VideoClipDataModule(SampleDataModule):
    """Batches ``(clips, targets, index)`` of a ``VideoSource``; a row is a video.

    Training sees one random clip of each video, (B, 3, T, crop, crop) uint8, and validation the one in the
    middle. Prediction sees all views of a video, (B, V, 3, T, crop, crop), and so all of them are on one
    rank; V is ``clips_per_video * crops``, and 1 has no axis. Targets are int64, those of the video; index
    is (B,) int64: the row of each video, ``~row`` where it could not be decoded. It works alone::

        view = {"frames": 8, "fps": 8, "clips_per_video": 10}
        data = VideoClipDataModule(FolderVideos(root="videos", view=view), batch_size=16)
        trainer.fit(classifier, data)

    Args: see ``SampleDataModule``.
    """

    source: VideoSource
