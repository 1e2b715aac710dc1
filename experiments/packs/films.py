"""Film one little clip: a thing that moves in front of a place, as ``pictures`` would photograph it."""

import io
from fractions import Fraction

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from motions import MOTIONS, SECONDS
from numpy.typing import NDArray
from pens import Array, Random, turn
from pictures import FINER, SIDE, aim, expose, hide, put_thing
from places import PLACES

TICKS = 120  # a second; divided by 8, 12 and 24 frames a second
# x264's lookahead makes other bytes now and then, one time out of thirty, of pictures as small as these
CODEC = {"preset": "veryslow", "qp": "27", "bf": "0", "x264-params": "threads=1:rc-lookahead=0:scenecut=0"}


def moments(random: Random) -> NDArray[np.int64]:
    """(n,) presentation times of the frames, in ticks.

    Some cameras take 16 frames in two seconds, some take 24, and some take 48 and lose 32 of them.
    """
    rate = random.choice([8, 12, 24], p=[0.7, 0.15, 0.15])
    taken = np.arange(0, SECONDS * TICKS, TICKS // rate, dtype=np.int64)
    kept = 24 if rate == 12 else 16
    return np.append(taken[0], np.sort(random.choice(taken[1:], kept - 1, replace=False)))


def film(
    random: Random, ticks: NDArray[np.int64], *, shape: str, texture: str, mood: str, place: str, motion: str
) -> NDArray[np.uint8]:
    """One clip, (n, SIDE, SIDE, 3) uint8 RGB: its frames at these times."""
    axis = (np.arange(SIDE * FINER) + 0.5) / (SIDE * FINER) * 2 - 1
    x, y = np.meshgrid(axis, -axis)
    ground = PLACES[place](random, *aim(random, x, y))
    poses = np.broadcast_arrays(*MOTIONS[motion](random, ticks / TICKS), ticks)[:-1]
    (left, low), size = random.uniform(-0.15, 0.15, 2), random.uniform(0.5, 0.6)
    hidden = random.random() < 0.2
    looks, camera = random.integers(2**32, size=2)  # begun anew for each frame: all show the same
    frames = []
    for across, up, angle, scale, seen in zip(*poses, strict=True):
        canvas, again = ground.copy(), np.random.default_rng(camera)
        if seen:
            u, v = turn(x - left - across, y - low - up, angle)
            zoom = size * scale
            put_thing(np.random.default_rng(looks), canvas, u / zoom, v / zoom, shape, texture, mood)
        if hidden:
            hide(again, canvas, x, y)
        expose(again, canvas, x, y)
        frames.append(_develop(canvas))
    return np.stack(frames)


def _develop(canvas: Array) -> NDArray[np.uint8]:
    pixels = canvas.reshape(SIDE, FINER, SIDE, FINER, 3).mean(axis=(1, 3))
    return np.asarray((pixels.clip(0, 1) * 255).round(), dtype=np.uint8)


def encode(frames: NDArray[np.uint8], ticks: NDArray[np.int64]) -> bytes:
    """An H.264 mp4 of these frames, each shown until the next, the last until SECONDS; no clock enters it."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", Fraction(len(ticks), SECONDS), options=CODEC)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, TICKS)
        packets = []
        for pixels, tick in zip(frames, ticks, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = int(tick), Fraction(1, TICKS)
            packets += stream.encode(frame)
        packets += stream.encode()
        gaps = np.diff(ticks, append=SECONDS * TICKS)
        no_settings = BitStreamFilterContext("filter_units=remove_types=6", stream)  # 600 bytes a clip
        for packet, gap in zip(packets, gaps, strict=True):
            packet.duration = int(gap)
            container.mux(no_settings.filter(packet))
    return buffer.getvalue()
