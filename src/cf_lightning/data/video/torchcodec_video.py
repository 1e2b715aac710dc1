"""Frames by torchcodec, which needs FFmpeg's libraries on the machine."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchcodec.decoders import VideoDecoder  # type: ignore[attr-defined]
from torchcodec.transforms import Resize  # type: ignore[attr-defined]
from torchvision.transforms.v2.functional import InterpolationMode, resize

from cf_lightning.data.video.base import TimedVideo, resized
from cf_lightning.data.video.demux import Packets


class TorchcodecVideo(TimedVideo):
    """A video that torchcodec decodes, on one thread.

    torchcodec is told where the frames are, so that both decoders have the same ones and the file is not
    read through once more. It resizes bilinearly while it decodes; bicubic is left to torchvision.

    Args:
        source: the file, or its bytes.
        packets: of this file, stamped.
        short_side: of the frames, in pixels.
        interpolation: ``bilinear`` or ``bicubic``, antialiased.
    """

    def __init__(self, source: Path | bytes, packets: Packets, short_side: int, interpolation: str) -> None:
        super().__init__(packets.times, packets.end)
        is_key = np.zeros(self.num_frames, bool)
        is_key[packets.keys] = True
        frames = [
            {"pts": stamp, "duration": 1, "key_frame": key}
            for stamp, key in zip(packets.stamps.tolist(), is_key.tolist(), strict=True)
        ]
        mappings = json.dumps({"frames": frames})

        def build(transforms: list[Resize]) -> VideoDecoder:
            return VideoDecoder(
                source,
                stream_index=packets.stream,
                num_ffmpeg_threads=1,
                transforms=transforms,
                custom_frame_mappings=mappings,
            )

        with _one_kind_of_error():
            decoder = build([])
            upright = int(decoder.metadata.height or 0), int(decoder.metadata.width or 0)
            self.size = resized(*upright, short_side)
            self.resizes_afterwards = interpolation == "bicubic" and self.size != upright
            if self.size != upright and not self.resizes_afterwards:
                decoder = build([Resize(self.size)])
        self._decoder: VideoDecoder | None = decoder

    def decode(self, rows: np.ndarray) -> Tensor:
        """Frames by their numbers, (n, 3, h, w)."""
        assert self._decoder is not None, "the video is closed"
        with _one_kind_of_error():
            if not self.resizes_afterwards:
                frames: Tensor = self._decoder.get_frames_at(rows.tolist()).data
                return frames
            # one at a time: all of them at full size may take gigabytes
            return torch.stack([self._bicubic(self._decoder.get_frame_at(row).data) for row in rows.tolist()])

    def _bicubic(self, frame: Tensor) -> Tensor:
        scaled: Tensor = resize(frame, list(self.size), InterpolationMode.BICUBIC, antialias=True)
        return scaled

    def close(self) -> None:
        """Let go of the decoder, which closes the file."""
        self._decoder = None


@contextmanager
def _one_kind_of_error() -> Iterator[None]:
    """One kind of torchcodec's several comes of a header whose frame rate is infinite."""
    try:
        yield
    except (RuntimeError, ValueError, IndexError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"torchcodec cannot decode it ({why}); data.decoder=pyav may") from error
