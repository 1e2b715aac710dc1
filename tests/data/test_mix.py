import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from cf_lightning.data.mix import Mix

BATCH, HEIGHT, WIDTH = 8, 12, 10


@pytest.fixture
def images() -> Tensor:
    """Random, and no pixel of the first half is equal to any of the second."""
    made = torch.randint(120, (BATCH, 3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0))
    made[BATCH // 2 :] += 130
    return made.to(torch.uint8)


def partner(sample: int) -> int:
    return (sample + BATCH // 2) % BATCH


def test_mixup_is_the_weighted_mean_of_a_sample_and_its_partner(images: Tensor) -> None:
    for step in range(5):
        mixed, share = Mix(mixup=0.8)(images, 0, step)
        assert mixed.dtype == torch.float32
        assert 0 < share < 1
        for sample in range(BATCH):
            expected = share * images[sample].double() + (1 - share) * images[partner(sample)].double()
            torch.testing.assert_close(mixed[sample].double(), expected, atol=1e-3, rtol=0)


def test_cutmix_pastes_one_rectangle_of_the_partner_and_its_share_is_what_is_left(images: Tensor) -> None:
    areas = set()
    for step in range(20):
        mixed, share = Mix(cutmix=1.0)(images, 0, step)
        pasted = mixed[0, 0] != images[0, 0]
        rectangle = pasted.any(1)[:, None] & pasted.any(0)[None]
        assert torch.equal(pasted, rectangle)
        for sample in range(BATCH):
            expected = torch.where(rectangle, images[partner(sample)], images[sample])
            assert torch.equal(mixed[sample], expected.float())
        area = int(rectangle.sum())
        assert share == pytest.approx(1 - area / (HEIGHT * WIDTH))
        areas.add(area)
    assert len(areas) > 10


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("mix", [Mix(mixup=0.4), Mix(cutmix=1.0)], ids=["mixup", "cutmix"])
def test_a_global_batch_is_the_same_on_any_number_of_ranks(mix: Mix, ranks: int, images: Tensor) -> None:
    whole, share = mix(images, 3, 11)
    for rank in range(ranks):
        part, of_part = mix(images[rank::ranks], 3, 11)
        assert torch.equal(part, whole[rank::ranks])
        assert of_part == share


def test_patches_of_an_image_are_mixed_alike(images: Tensor) -> None:
    patches = torch.stack([images, images.flip(3)], dim=1)
    for mix in (Mix(mixup=0.4), Mix(cutmix=1.0)):
        mixed, share = mix(patches, 0, 2)
        assert mixed.shape == patches.shape
        for number in range(2):
            expected, of_images = mix(patches[:, number], 0, 2)
            assert torch.equal(mixed[:, number], expected)
            assert share == of_images


def test_draws_follow_seed_and_step_alone(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    mix = Mix(mixup=0.4)
    first, share = mix(images, 0, 7)
    torch.manual_seed(1234)
    before = torch.get_rng_state()
    of_gpus: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", of_gpus.append)
    again, same = mix(images, 0, 7)
    assert torch.equal(torch.get_rng_state(), before), "the trainer's own draws are not disturbed"
    assert not of_gpus, "nor those on a GPU"
    assert torch.equal(again, first)
    assert same == share
    assert len({share, mix(images, 0, 8)[1], mix(images, 1, 7)[1]}) == 3


def test_the_share_is_of_the_beta_distribution(images: Tensor) -> None:
    for alpha in (0.2, 2.0):
        shares = torch.tensor([Mix(mixup=alpha)(images[:2], 0, step)[1] for step in range(300)])
        assert shares.mean() == pytest.approx(0.5, abs=0.06)
        assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.2)


def test_with_both_each_batch_is_mixed_in_one_of_the_two_ways(images: Tensor) -> None:
    mix = Mix(mixup=1.0, cutmix=1.0)
    whole_pixels = [torch.equal(mixed, mixed.round()) for mixed, _ in (mix(images, 0, s) for s in range(100))]
    assert 35 < sum(whole_pixels) < 65


def test_what_is_on_and_what_is_refused(images: Tensor) -> None:
    assert [Mix(mixup=a, cutmix=b).on for a, b in ((0.0, 0.0), (0.1, 0.0), (0.0, 0.1))] == [False, True, True]
    with pytest.raises(ValueError, match="a batch of 7 images has no two halves"):
        Mix(mixup=0.2)(images[:7], 0, 0)
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Mix(cutmix=-1.0)
