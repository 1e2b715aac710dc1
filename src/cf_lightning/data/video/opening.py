"""``open_video``: check a file, list its frames, and give it to a decoder that is right for it."""

from functools import cache
from pathlib import Path
from typing import Literal

from cf_lightning.data.video.base import Video, resized
from cf_lightning.errors import ConfigError

Decoder = Literal["auto", "torchcodec", "pyav"]


def open_video(
    source: Path | bytes,
    decoder: Decoder,
    resize: int,
    interpolation: Literal["bilinear", "bicubic"],
    max_pixels: int,
) -> Video:
    """Open a video without decoding it.

    Args:
        source: the file, which is not read whole, or its bytes.
        decoder: ``auto`` is torchcodec where it can be imported and is right, else PyAV. It is wrong where
            frames bear no times of their own (AVI, files with one time for all) and in MPEG streams.
        resize: the short side of the frames in pixels.
        interpolation: of the resize, antialiased.
        max_pixels: a file with larger frames is refused by its header, before memory is taken for them.

    Raises:
        ConfigError: ``decoder`` is torchcodec and cannot be imported.
        ValueError: empty, truncated, damaged, too large, or not a video; the message says which.
        OSError: the file is not there or cannot be read.
    """
    from cf_lightning.data.video.demux import open_container, scan, video_stream
    from cf_lightning.data.video.pyav_video import PyavVideo

    if decoder == "torchcodec" and why_no_torchcodec():
        raise ConfigError(
            f"data.decoder=torchcodec: it cannot be imported ({why_no_torchcodec()}); pip install torchcodec "
            "and FFmpeg's libraries (apt install ffmpeg), or take data.decoder=pyav"
        )
    with open_container(source) as container:
        stream = video_stream(container)
        height, width = stream.codec_context.height, stream.codec_context.width
        if not height * width:
            raise ValueError("the video stream has no frames, or of an unknown kind")
        if height * width > max_pixels:
            pixels = f"{width} x {height} = {width * height}"
            raise ValueError(f"{pixels} pixels a frame; at most {max_pixels} are decoded")
        packets = scan(container, stream)
        trusted = packets.stamped and container.format.name.startswith(("mov", "matroska"))
    if decoder == "torchcodec" and not trusted:
        raise ValueError("torchcodec takes wrong frames of such a file; take data.decoder=auto")
    if decoder == "torchcodec" or (decoder == "auto" and trusted and not why_no_torchcodec()):
        from cf_lightning.data.video.torchcodec_video import TorchcodecVideo

        try:
            return TorchcodecVideo(source, packets, resize, interpolation)
        except ValueError:  # its FFmpeg may have been built without this codec
            if decoder == "torchcodec":
                raise
    return PyavVideo(source, packets, resized(height, width, resize), interpolation)


@cache
def why_no_torchcodec() -> str:
    """Why torchcodec cannot be used in this process, in one line; empty if it can."""
    try:
        from torchcodec import ffmpeg_major_version  # type: ignore[attr-defined]
    except (ImportError, RuntimeError, OSError) as error:
        return str(error).splitlines()[0]
    return "" if ffmpeg_major_version else "FFmpeg's libraries are not there"
