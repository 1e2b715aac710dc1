"""Video: clips of a long file, what the data module costs beside the decoder, its memory, R(2+1)D in bf16.

Called with a folder of videos and a decoder, this file is the process whose memory is measured.
"""

import copy
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np
import psutil
import torch
from measuring import Bound, Row, Side, in_turn, ratio, seconds
from PIL import Image
from torch import Tensor
from torch.nn.functional import cosine_similarity

from cf_lightning.data.clip_view import ClipView
from cf_lightning.data.clips import VideoClipDataModule
from cf_lightning.data.folder import FolderVideos
from cf_lightning.data.index import Index
from cf_lightning.data.video.opening import why_no_torchcodec
from cf_lightning.data.video_source import VideoSource
from cf_lightning.data.views import Augmentation
from cf_lightning.features import FeatureExtractionModule
from cf_lightning.models.r2plus1d import R2Plus1D

DECODERS = ("pyav",) if why_no_torchcodec() else ("pyav", "torchcodec")
HEIGHT, WIDTH, FPS = 240, 320, 30
TEXTURE, GRAIN = 20, 8  # grey levels: some 400 kbit/s
LONG, SHORT, SHORTEST = 590, 6, 2  # seconds; of 600, every clip would begin just before a key frame
VIDEOS, BATCH, PROCESSES = 32, 4, 2
WARM, CLIPS = 200, 1200  # through the data module, in whole epochs of 40 videos
GROWTH = 18  # MiB; what half a frame of 112 px kept of every clip would come to
EXTRACTED = 6
NETWORK = R2Plus1D(depth=18)


def rows(folder: Path) -> Iterator[Row]:
    yield from reading(make_videos(folder / "long_video", 1, LONG))
    videos = make_videos(folder / "videos", VIDEOS, SHORT)
    for decoder in DECODERS:
        yield feeding(videos, decoder)
    make_videos(folder / "short_videos", 40, SHORTEST)
    for decoder in DECODERS:
        yield memory(folder / "short_videos", decoder)
    yield from extraction(videos)


def make_videos(root: Path, number: int, length: int) -> VideoSource:
    """Films of one shot that pans over a texture, with grain; x264 says how far apart key frames are."""
    rng = np.random.default_rng(0)
    grain = noise(rng, GRAIN, FPS, HEIGHT, WIDTH)
    times = np.arange(length * FPS) / FPS
    for i in range(number):
        file = root / str(i % 8) / f"{i:03d}.mp4"
        file.parent.mkdir(parents=True, exist_ok=True)
        blobs = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
        smooth = np.asarray(blobs.resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.BICUBIC))
        scene = smooth + noise(rng, TEXTURE, 2 * HEIGHT, 2 * WIDTH)
        tops = (HEIGHT * (1 + np.sin(times + i)) / 2).astype(int)
        lefts = (WIDTH * (1 + np.sin(times / 2)) / 2).astype(int)
        with av.open(str(file), "w") as container:
            stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
            stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
            for t, (top, left) in enumerate(zip(tops, lefts, strict=True)):
                shown = scene[top : top + HEIGHT, left : left + WIDTH] + grain[t % FPS]
                pixels = shown.clip(0, 255).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
    return FolderVideos(root=str(root), view=ClipView(), holdout=0.0)


def noise(rng: np.random.Generator, strength: int, *shape: int) -> np.ndarray:
    """Grey: the same in every channel."""
    return rng.integers(-strength, strength + 1, (*shape, 1), np.int16)


def reading(source: VideoSource) -> Iterator[Row]:
    """Clips a second: those of the source, and the same number after every frame has been decoded."""
    index, clips = source.index(), source.view.clips_per_video
    path = source.folder() / index.key(0)

    def every_frame() -> float:
        with av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1  # as ours
            return clips / seconds(lambda: deque(container.decode(video=0), maxlen=0))

    def clips_alone(decoder: str) -> Side:
        chosen = source.model_copy(update={"decoder": decoder})
        return lambda: clips / seconds(lambda: chosen.sample(index, 0))

    *ours, theirs = in_turn(*map(clips_alone, DECODERS), every_frame, rounds=3)
    for decoder, rates in zip(DECODERS, ours, strict=True):
        what = f"{clips} clips of a film of {LONG} s / all its frames by PyAV ({decoder}, h264, {HEIGHT}p)"
        yield ratio(what, rates, theirs, Bound(">=", 5), "clips/s")


def feeding(source: VideoSource, decoder: str) -> Row:
    """Clips a second of the data module, and of as many processes that only decode the same ones."""
    source = source.model_copy(update={"decoder": decoder})
    index, clips = source.index(), VIDEOS * source.view.clips_per_video
    data = VideoClipDataModule(source, index=index, batch_size=BATCH, workers=PROCESSES)
    loader = data.predict_dataloader()
    batches = np.arange(VIDEOS).reshape(-1, BATCH).tolist()
    with ProcessPoolExecutor(
        PROCESSES, get_context("fork"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        ours, alone = in_turn(
            lambda: clips / seconds(lambda: deque(loader, maxlen=0)),
            lambda: clips / seconds(lambda: list(pool.map(partial(decode, source, index), batches))),
            rounds=3,
        )
    what = f"Data module / the decoder alone, {PROCESSES} processes each ({decoder}, h264, {HEIGHT}p)"
    return ratio(what, ours, alone, Bound(">=", 0.9), "clips/s")


def decode(source: VideoSource, index: Index, rows: list[int]) -> None:
    for row in rows:
        with source.open(index, row) as video:
            video.frames(source.view.times(video.begin, video.end, video.fps, random=False).ravel())


def memory(root: Path, decoder: str) -> Row:
    command = [sys.executable, __file__, str(root), decoder]
    warm, end = map(float, subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split())
    what = f"Data module: growth from {WARM} clips to {CLIPS}, {PROCESSES} loader processes ({decoder})"
    bound, of_three = Bound("<=", GROWTH, " MiB"), "MiB, RSS of all three"
    return Row(what, [end - warm], bound, "MiB", end, warm, of_three, digits=1)


def feed(root: str, decoder: str) -> None:
    """Train on random clips, and print the memory when warm and at the end."""
    source = FolderVideos.model_validate({"root": root, "decoder": decoder, "holdout": 0.0})
    data = VideoClipDataModule(source, augmentation=Augmentation(), batch_size=BATCH, workers=PROCESSES)
    loader, seen = data.train_dataloader(), 0
    while seen < CLIPS:
        seen += sum(len(clips) for clips, *_ in loader)
        if seen in (WARM, CLIPS):
            family = [psutil.Process(), *psutil.Process().children()]
            print(sum(process.memory_info().rss for process in family) / 2**20)


def extraction(source: VideoSource) -> Iterator[Row]:
    """R(2+1)D with random weights, on the first clip of several videos."""
    amx = "AMX" if "amx_bf16" in Path("/proc/cpuinfo").read_text() else "without AMX"
    where = f"R(2+1)D-{NETWORK.depth}, {source.view.frames} x {source.view.crop} px, cpu {amx}"
    index, view = source.index(), source.view.build()
    clips = torch.stack([view(source.sample(index, row))[0] for row in range(EXTRACTED)])
    torch.manual_seed(0)
    trunk = NETWORK.build().eval()
    plain_network = copy.deepcopy(trunk.network)
    module = FeatureExtractionModule(trunk, dtype=torch.float32)
    features: dict[str, Tensor] = {}

    def framework(name: str, bf16: bool) -> float:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return EXTRACTED / seconds(lambda: features.update({name: module.features(clips)[0].float()}))

    def plain() -> float:
        with torch.inference_mode():
            return EXTRACTED / seconds(lambda: plain_network((clips / 255 - trunk.mean) / trunk.std))

    lean, full, contiguous = in_turn(
        lambda: framework("bf16", True), lambda: framework("fp32", False), plain, rounds=3
    )
    yield ratio(f"bf16 / fp32, both channels_last_3d ({where})", lean, full, Bound(">=", 1.5), "clips/s")
    what = f"bf16 channels_last_3d / fp32 contiguous ({where})"
    yield ratio(what, lean, contiguous, Bound(">=", 1.5), "clips/s")
    yield similarity(f"Cosine of these features ({where})", features["bf16"], features["fp32"])


def similarity(what: str, lean: Tensor, full: Tensor) -> Row:
    """Of an untrained network, whose features are alike: so also without what they share."""
    same, other = cosine_similarity(lean, full), cosine_similarity(full, full.roll(1, 0))
    centred = cosine_similarity(lean - full.mean(0), full - full.mean(0))
    without_mean = f"without the mean feature {centred.mean():.4f} (least {centred.min():.4f})"
    note = f"the least of {len(same)}; of different clips {other.mean():.4f}; {without_mean}"
    return Row(what, [float(same.min())], Bound(">=", 0.999), note=note, digits=5)


if __name__ == "__main__":
    feed(*sys.argv[1:])
