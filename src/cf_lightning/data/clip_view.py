"""What the network sees of a video: clips, by presentation time."""

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cf_lightning.data.views import View

if TYPE_CHECKING:
    from torch import Tensor, nn


class ClipView(View):
    """Frames at a given rate, resized while they are decoded; extraction and test see several clips.

    A clip of T frames at s seconds covers T * s seconds, and frame j is the one that is shown at
    (j + 0.5) * s. Clips of extraction and test begin at equal distances, the first at the beginning and the
    last where it just ends with the video; a single one is in the middle; those of training begin anywhere.
    A video that is shorter than a clip is repeated from its beginning until the clip is full.

    Attributes:
        frames: T of a clip.
        fps: frames a second, whatever the video has; ``None`` takes the video's own frames.
        stride: of these every so many-th.
        clips_per_video: of extraction and test.
        reducing_gap: of JPEGs alone; frames of videos are decoded whole.
        crops: of each of them: 1 in the centre, or 3 from one end of the long side to the other.
    """

    resize: int = Field(default=128, ge=1)
    crop: int = Field(default=112, ge=1)
    reducing_gap: None = None
    frames: int = Field(default=8, ge=1)
    fps: float | None = Field(default=None, gt=0)
    stride: int = Field(default=1, ge=1)
    clips_per_video: int = Field(default=10, ge=1)
    crops: Literal[1, 3] = 1

    @model_validator(mode="after")
    def _one_rate(self) -> Self:
        if self.fps is not None and self.stride > 1:
            raise ValueError(f"fps={self.fps} and stride={self.stride}: set one of them")
        return self

    @property
    def views(self) -> int:
        """Of each video at extraction and test."""
        return self.clips_per_video * self.crops

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a video at extraction and test: (V, 3, T, crop, crop), V left out where it is 1."""
        clip = (3, self.frames, self.crop, self.crop)
        return (self.views, *clip) if self.views > 1 else clip

    def single(self) -> "ClipView":
        """The same with one clip and crop of each video: validation."""
        return self.model_copy(update={"clips_per_video": 1, "crops": 1})

    def times(self, begin: float, end: float, rate: float, random: bool) -> np.ndarray:
        """When the frames of each clip are shown: (clips, T) float64, in seconds.

        Args:
            begin: of the video.
            end: of its last frame.
            rate: the video's mean frames a second.
            random: one clip, whose beginning is drawn from torch's global generator.
        """
        import torch

        step = 1 / self.fps if self.fps else self.stride / rate
        spare = max(0.0, end - begin - self.frames * step)
        if random:
            starts = np.array([spare * float(torch.rand((), dtype=torch.float64))])
        elif self.clips_per_video == 1:
            starts = np.array([spare / 2])
        else:
            starts = np.linspace(0, spare, self.clips_per_video)
        within = (np.arange(self.frames) + 0.5) * step
        return np.asarray(begin + (starts[:, None] + within) % (end - begin))

    def build(self) -> "nn.Module":
        """From (T, 3, h, w) or (clips, T, 3, h, w) uint8, resized, to what ``shape`` says."""
        from torchvision.transforms import v2

        crop = v2.CenterCrop(self.crop) if self.crops == 1 else v2.Lambda(self._three_crops)
        built: nn.Module = v2.Compose([crop, *self.layout()])
        return built

    def layout(self) -> "list[nn.Module]":
        """(..., T, 3, h, w) to (..., 3, T, h, w)."""
        from torchvision.transforms import v2

        return [v2.Lambda(_channels_first)]

    def _three_crops(self, frames: "Tensor") -> "Tensor":
        """(..., T, 3, h, w) to (clips * 3, T, 3, crop, crop): both ends of the long side and the middle."""
        import torch

        height, width = frames.shape[-2:]
        crops = []
        for place in (0.0, 0.5, 1.0):
            along = place if width >= height else 0.5
            across = 0.5 if width >= height else place
            top, left = round(across * (height - self.crop)), round(along * (width - self.crop))
            crops.append(frames[..., top : top + self.crop, left : left + self.crop])
        return torch.stack(crops, dim=-5).flatten(0, -5)


def _channels_first(frames: Any) -> Any:
    return frames.transpose(-4, -3).contiguous()
