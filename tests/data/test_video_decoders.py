"""Both decoders: the same times, the same frames, nearly the same pixels; one clear line for a bad file."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from cf_lightning.data.video.base import Video
from cf_lightning.data.video.demux import Packets
from cf_lightning.data.video.opening import Decoder, open_video, why_no_torchcodec
from cf_lightning.data.video.pyav_video import PyavVideo
from videos import number_of, numbered_frames, write_sound, write_video

needs_torchcodec = pytest.mark.skipif(bool(why_no_torchcodec()), reason=why_no_torchcodec())
DECODERS = ["pyav", pytest.param("torchcodec", marks=needs_torchcodec)]
UNEVEN = [0, 0.1, 0.5, 0.6, 0.65, 1.5, 2.0, 2.04, 2.9, 3.0]


def open_by(
    decoder: Decoder, source: Path | bytes, resize: int = 48, interpolation: str = "bilinear"
) -> Video:
    return open_video(source, decoder, resize, interpolation, 10**6)  # type: ignore[arg-type]


def rotated(path: Path, degrees: int) -> Path:
    frames = np.rot90(numbered_frames(30), degrees // 90, (1, 2))
    return write_video(path, np.ascontiguousarray(frames), rotation=degrees)


FILES: dict[str, Callable[[Path], Path]] = {
    "h264": lambda at: write_video(at / "a.mp4", numbered_frames(30)),
    "h264_mkv": lambda at: write_video(at / "a.mkv", numbered_frames(30), sound=True),
    "hevc": lambda at: write_video(at / "a.mp4", numbered_frames(30), codec="libx265"),
    "vp9": lambda at: write_video(at / "a.webm", numbered_frames(30), codec="libvpx-vp9"),
    "av1": lambda at: write_video(at / "a.mkv", numbered_frames(20, 64, 80), codec="libsvtav1"),
    "mpeg4": lambda at: write_video(at / "a.mp4", numbered_frames(30), codec="mpeg4"),
    "uneven": lambda at: write_video(at / "a.mp4", numbered_frames(10), times=UNEVEN, gop=4),
    "uneven_mkv": lambda at: write_video(at / "a.mkv", numbered_frames(10), times=UNEVEN, gop=4),
    "odd": lambda at: write_video(at / "a.webm", numbered_frames(30, 49, 65), codec="libvpx-vp9"),
    "ten_bits": lambda at: write_video(
        at / "a.mp4", numbered_frames(30), codec="libx265", pixel_format="yuv420p10le"
    ),
    "alpha": lambda at: write_video(at / "a.mov", numbered_frames(30), codec="png", pixel_format="rgba"),
    "phone_90": lambda at: rotated(at / "a.mp4", 90),
    "phone_180": lambda at: rotated(at / "a.mp4", 180),
    "phone_270": lambda at: rotated(at / "a.mov", 270),
    "metadata": lambda at: write_video(at / "a.mp4", numbered_frames(30), metadata=b"caf\xe9 \xff"),
}
UNSTAMPED: dict[str, Callable[[Path], Path]] = {
    "h264.avi": lambda at: write_video(at / "a.avi", numbered_frames(100)),
    "mpeg4.avi": lambda at: write_video(at / "a.avi", numbered_frames(100), codec="mpeg4"),
    "metadata.avi": lambda at: write_video(at / "a.avi", numbered_frames(30), metadata=b"caf\xe9 \xff"),
    "mpegts": lambda at: write_video(at / "a.ts", numbered_frames(100)),
    "mpeg": lambda at: write_video(at / "a.mpg", numbered_frames(100), codec="mpeg2video", fps=25),
    "flv": lambda at: write_video(at / "a.flv", numbered_frames(30)),
}


def difference(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b.float()).abs().mean())


def check_frames(video: Video, order: np.ndarray, times: np.ndarray) -> Tensor:
    frames = video.frames(times[order] + 0.01)
    assert [number_of(frame) for frame in frames] == order.tolist()
    for number in order[:6]:
        assert number_of(video.frames(times[[number]])[0]) == number
    return frames


@needs_torchcodec
@pytest.mark.parametrize("name", FILES)
def test_both_decoders_pick_the_same_frames(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    with open_by("pyav", path) as pyav, open_by("torchcodec", path.read_bytes()) as torchcodec:
        assert (pyav.begin, pyav.end, pyav.num_frames) == (
            torchcodec.begin,
            torchcodec.end,
            torchcodec.num_frames,
        )
        times = np.array(UNEVEN) if "uneven" in name else np.arange(pyav.num_frames) / 10
        assert pyav.num_frames == len(times)
        assert pyav.begin == 0
        assert "uneven" in name or pyav.end == pytest.approx(len(times) / 10)
        assert pyav.end > times[-1]
        order = np.random.default_rng(0).integers(0, len(times), 2 * len(times))
        ours, theirs = (check_frames(video, order, times) for video in (pyav, torchcodec))
        assert ours.shape == theirs.shape
        assert min(ours.shape[2:]) == 48
        assert difference(ours, theirs) <= 2


@needs_torchcodec
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", ["h264", "ten_bits", "phone_90"])
@pytest.mark.parametrize("resize", [24, 80])
def test_both_decoders_resize_alike(name: str, interpolation: str, resize: int, tmp_path: Path) -> None:
    path = FILES[name](tmp_path)
    frames = []
    for decoder in ("pyav", "torchcodec"):
        with open_by(decoder, path, resize, interpolation) as video:  # type: ignore[arg-type]
            frames.append(video.frames(np.arange(10) / 10))
    assert frames[0].shape == frames[1].shape == (10, 3, resize, resize * 64 // 48)
    assert difference(*frames) <= 2


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_downscaling_is_antialiased(decoder: Decoder, interpolation: str, tmp_path: Path) -> None:
    stripes = np.zeros((4, 96, 96, 3), np.uint8)
    stripes[:, :, ::2] = 255
    path = write_video(tmp_path / "a.mp4", stripes, options={"qp": "0"}, pixel_format="yuv444p")
    with open_by(decoder, path, 24, interpolation) as video:
        frame = video.frames(np.zeros(1))[0].float()
    assert float((frame[..., 3:-3] - 127.5).abs().max()) < 12


@pytest.mark.parametrize("name", UNSTAMPED)
def test_what_only_pyav_gets_right(name: str, tmp_path: Path) -> None:
    path = UNSTAMPED[name](tmp_path)
    fps = 25 if name == "mpeg" else 10
    with open_by("auto", path) as video:
        assert isinstance(video, PyavVideo)
        times = video.begin + np.arange(video.num_frames) / fps
        assert video.end == pytest.approx(times[-1] + 1 / fps)
        order = np.random.default_rng(0).permutation(video.num_frames)[:30]
        check_frames(video, order, times)
    if not why_no_torchcodec():
        with pytest.raises(ValueError, match=r"wrong frames of such a file; take data\.decoder=auto"):
            open_by("torchcodec", path)


def test_a_file_with_the_same_time_in_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "b.mp4"
    with av.open(str(FILES["h264"](tmp_path))) as good, av.open(str(path), "w") as bad:
        stream = bad.add_stream_from_template(good.streams.video[0])
        for packet in good.demux(video=0):
            if packet.size:
                packet.pts = packet.dts = 0
                packet.stream = stream
                bad.mux(packet)
    with open_by("auto", path) as video:
        assert video.num_frames == 30
        assert video.end > video.begin
        times = np.arange(30) / 10
        check_frames(video, np.random.default_rng(0).permutation(30), times)


def test_times_outside_and_between(tmp_path: Path) -> None:
    path = FILES["uneven"](tmp_path)
    with open_by("auto", path) as video:
        frames = video.frames(np.array([9.0, -1.0, 0.49, 0.5 - 1e-9, 0.1, 0.1, 1.49]))
        assert [number_of(frame) for frame in frames] == [9, 0, 1, 2, 1, 1, 4]
        assert video.fps == pytest.approx(10 / (video.end - video.begin))


class Counting(PyavVideo):
    decoded = 0

    def _next(self, row: int) -> bool:
        self.decoded += 1
        return super()._next(row)


def test_few_frames_are_decoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(200), gop=10, options={"sc_threshold": "0"})
    with open_by("pyav", path) as opened:
        assert isinstance(opened, PyavVideo)
        packets: Packets = opened.packets
    assert packets.keys.tolist() == list(range(0, 200, 10))
    with Counting(path, packets, (48, 64), "bilinear") as video:
        video.frames(np.array([5.5, 15.5]))
        assert video.decoded == 12
        video.frames(np.array([15.6, 15.6, 15.8]))
        assert video.decoded == 15
        video.frames(np.array([15.8]))
        assert video.decoded == 15


def picture(path: Path) -> Path:
    Image.fromarray(numbered_frames(1)[0]).save(path, "PNG")
    return path


def cut(path: Path, share: float = 0.5) -> Path:
    encoded = path.read_bytes()
    path.write_bytes(encoded[: int(len(encoded) * share)])
    return path


def saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


FRONT = {"movflags": "faststart"}
BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty": (lambda at: saved(at / "a.mp4", b""), "^the file is empty$"),
    "text": (lambda at: saved(at / "a.mp4", b"<html>404 Not Found</html>\n" * 99), "^not an MP4, MOV"),
    "noise": (lambda at: saved(at / "a.avi", np.random.default_rng(0).bytes(9999)), "^not an MP4, MOV"),
    "picture": (lambda at: picture(at / "a.mp4"), "^not an MP4, MOV"),
    "playlist": (lambda at: saved(at / "a.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n"), "^not an MP4, MOV"),
    "sound": (lambda at: write_sound(at / "a.mp4"), "no video stream"),
    "no_frames": (lambda at: write_video(at / "a.mp4", numbered_frames(0)), "no (frames|video stream)"),
    "moov_last": (lambda at: cut(write_video(at / "a.mp4", numbered_frames(30))), "truncated"),
    "moov_first": (
        lambda at: cut(write_video(at / "a.mp4", numbered_frames(30), container_options=FRONT)),
        "truncated",
    ),
    "avi": (lambda at: cut(write_video(at / "a.avi", numbered_frames(30)), 0.8), "truncated"),
    "mkv": (lambda at: cut(write_video(at / "a.mkv", numbered_frames(30))), "truncated"),
    "webm": (
        lambda at: cut(write_video(at / "a.webm", numbered_frames(30), codec="libvpx-vp9"), 0.99),
        "truncated",
    ),
    "large": (
        lambda at: write_video(at / "a.mp4", numbered_frames(2, 1000, 1002)),
        "1002 x 1000 = 1002000 pix",
    ),
}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_in_one_line(
    name: str, decoder: Decoder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make, message = BAD[name]
    path = make(tmp_path)
    capfd.readouterr()
    for source in (path, path.read_bytes()):
        with pytest.raises(ValueError, match=message) as caught:
            open_by(decoder, source)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".webm"])
def test_every_truncation_is_found(suffix: str, tmp_path: Path) -> None:
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    whole = write_video(
        tmp_path / f"a{suffix}", numbered_frames(10), codec=codec, container_options=FRONT
    ).read_bytes()
    open_by("pyav", whole).close()
    for length in range(0, len(whole), 97):
        with pytest.raises(ValueError, match=r"empty|truncated|not an MP4"):
            open_by("pyav", whole[:length])


def test_damage_never_ends_the_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = FILES["h264"](tmp_path).read_bytes()
    rng = np.random.default_rng(0)
    capfd.readouterr()
    messages = []
    for _ in range(30):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 30):
            damaged[place] ^= int(rng.integers(1, 256))
        try:
            with open_by("auto", bytes(damaged)) as video:
                assert video.frames(np.arange(30) / 10).shape[0] == 30
        except ValueError as error:
            messages.append(str(error))
    assert messages
    assert not any("\n" in message for message in messages)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_by("auto", tmp_path / "none.mp4")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts the files that Linux says are open")
@pytest.mark.parametrize("decoder", DECODERS)
def test_files_are_closed(decoder: Decoder, tmp_path: Path) -> None:
    path = FILES["h264"](tmp_path)
    bad = cut(write_video(tmp_path / "b.mkv", numbered_frames(30)))
    counts = []
    for number in range(300):
        source = path if number % 2 else path.read_bytes()
        with open_by(decoder, source) as video:
            video.frames(np.array([1.5]))
        with pytest.raises(ValueError, match="truncated"):
            open_by(decoder, bad)
        counts.append(len(os.listdir("/proc/self/fd")))
    assert counts[-1] == counts[5]
    video.close()


def test_torchcodec_that_is_not_there(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["torchcodec"] = None
from pathlib import Path
from cf_lightning.data.video.opening import open_video
from cf_lightning.errors import ConfigError
path = Path({str(FILES["h264"](tmp_path))!r})
print(type(open_video(path, "auto", 48, "bilinear", 10**6)).__name__)
try:
    open_video(path, "torchcodec", 48, "bilinear", 10**6)
except ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert done.stdout.startswith("PyavVideo\ndata.decoder=torchcodec: it cannot be imported (")
    assert "pip install torchcodec" in done.stdout


def test_opening_imports_nothing_heavy() -> None:
    code = (
        "import sys, cf_lightning.data.video.opening; print({'torch', 'av', 'torchcodec'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
