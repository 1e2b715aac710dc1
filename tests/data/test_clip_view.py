import numpy as np
import pytest
import torch
from pydantic import ValidationError

from cf_lightning.data.clip_view import ClipView
from cf_lightning.data.views import Augmentation


def view(**settings: object) -> ClipView:
    return ClipView.model_validate({"resize": 6, "crop": 4} | settings)


def test_clips_begin_at_equal_distances_and_the_last_ends_with_the_video() -> None:
    clips = view(frames=4, fps=2, clips_per_video=3)

    times = clips.times(begin=1.0, end=11.0, rate=25, random=False)

    # a clip covers 2 of the 10 s, so they begin at 1, 5 and 9; a frame is that of the middle of half a second
    assert times.tolist() == [[b + 0.25, b + 0.75, b + 1.25, b + 1.75] for b in (1, 5, 9)]


def test_a_single_clip_is_in_the_middle() -> None:
    one = view(frames=2, fps=1, clips_per_video=10).single()

    assert one.times(0.0, 10.0, 25, random=False).tolist() == [[4.5, 5.5]]


def test_without_fps_every_strideth_frame_of_the_video_is_taken() -> None:
    clips = view(frames=3, stride=2, clips_per_video=1)

    times = clips.times(0.0, 6 / 25, rate=25, random=False)  # six frames: 0 and 1, 2 and 3, 4 and 5

    assert np.floor(times * 25 + 1e-9).tolist() == [[1, 3, 5]]


def test_a_video_shorter_than_a_clip_is_repeated() -> None:
    clips = view(frames=6, fps=1, clips_per_video=2)

    times = clips.times(10.0, 14.0, rate=25, random=False)

    assert times.tolist() == [[10.5, 11.5, 12.5, 13.5, 10.5, 11.5]] * 2


def test_random_clips_follow_the_generator_and_reach_everywhere() -> None:
    clips = view(frames=2, fps=1, clips_per_video=10)
    starts = []
    for seed in range(200):
        torch.manual_seed(seed)
        times = clips.times(0.0, 12.0, 25, random=True)
        assert times.shape == (1, 2)
        starts.append(times[0, 0] - 0.5)
    torch.manual_seed(7)

    assert clips.times(0.0, 12.0, 25, random=True)[0, 0] - 0.5 == starts[7]
    assert min(starts) >= 0
    assert max(starts) <= 10
    assert np.histogram(starts, 5, (0, 10))[0].min() > 15


@pytest.mark.parametrize(("clips", "crops"), [(1, 1), (1, 3), (2, 1), (2, 3)])
@pytest.mark.parametrize("size", [(6, 9), (9, 6)])
def test_the_view_has_the_shape_that_it_says(clips: int, crops: int, size: tuple[int, int]) -> None:
    clip_view = view(frames=5, clips_per_video=clips, crops=crops)
    frames = torch.randint(0, 255, (clips, 5, 3, *size), dtype=torch.uint8)

    seen = clip_view.build()(frames if clips > 1 else frames[0])

    assert seen.shape == clip_view.shape
    views = seen.view(clips, crops, 3, 5, 4, 4)
    height, width = size
    ends = [(height - 4) // 2] * 3 if width > height else [0, round((height - 4) / 2), height - 4]
    tops = ends if crops == 3 else [round((height - 4) / 2)]
    sides = [0, round((width - 4) / 2), width - 4] if width > height else [(width - 4) // 2] * 3
    lefts = sides if crops == 3 else [round((width - 4) / 2)]
    for clip in range(clips):
        for crop, (top, left) in enumerate(zip(tops, lefts, strict=True)):
            expected = frames[clip, :, :, top : top + 4, left : left + 4].transpose(0, 1)
            assert views[clip, crop].equal(expected)


def test_augmentation_changes_all_frames_of_a_clip_alike() -> None:
    still = torch.randint(0, 255, (1, 3, 8, 8), dtype=torch.uint8).expand(6, -1, -1, -1)
    random = Augmentation(min_area=0.3, flip=0.5, rand_ops=2, jitter=0.4, hue=0.2).build(view(frames=6))

    for seed in range(10):
        torch.manual_seed(seed)
        clip = random(still)
        assert clip.shape == (3, 6, 4, 4)
        assert all(clip[:, 0].equal(clip[:, frame]) for frame in range(1, 6))


def test_a_rate_is_said_once() -> None:
    with pytest.raises(ValidationError, match=r"fps=15\.0 and stride=2: set one of them"):
        view(fps=15.0, stride=2)
