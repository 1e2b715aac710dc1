from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from cf_lightning.data.progressive import Progressive
from cf_lightning.data.views import Augmentation, View

VIEW = View(resize=18, crop=16, interpolation="bicubic")
IMAGE = torch.randint(256, (3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def steps(augmentation: Augmentation) -> list[str]:
    built: Any = augmentation.build(VIEW)
    return [type(step).__name__ for step in built.transforms]


def shown(module: nn.Module, seed: int) -> Tensor:
    torch.manual_seed(seed)
    image: Tensor = module(IMAGE)
    return image


def test_randaugment_is_off_by_default_and_comes_after_crop_and_flip() -> None:
    assert steps(Augmentation()) == ["RandomResizedCrop", "RandomHorizontalFlip"]
    everything = Augmentation(min_area=None, jitter=0.4, rand_ops=2)
    assert steps(everything) == ["Resize", "RandomCrop", "RandomHorizontalFlip", "RandAugment", "ColorJitter"]


def test_every_operation_of_randaugment_works_on_images_of_any_view() -> None:
    augmented = Augmentation(rand_ops=2, rand_magnitude=30).build(VIEW)
    plain = Augmentation().build(VIEW)
    changed = 0
    for seed in range(100):  # of fourteen operations; none is missed
        image = shown(augmented, seed)
        assert (image.dtype, image.shape) == (torch.uint8, (3, 16, 16))
        assert torch.equal(image, shown(augmented, seed))
        changed += not torch.equal(image, shown(plain, seed))
    assert changed > 80


def test_the_magnitude_of_randaugment_is_the_strength_of_its_operations() -> None:
    plain = Augmentation(flip=0.0).build(VIEW)
    change = {}
    for magnitude in (3, 27):
        augmented = Augmentation(flip=0.0, rand_ops=1, rand_magnitude=magnitude).build(VIEW)
        pairs = ((shown(augmented, seed).float(), shown(plain, seed).float()) for seed in range(60))
        change[magnitude] = sum(float((one - two).abs().mean()) for one, two in pairs)
    assert change[27] > 1.5 * change[3]


@pytest.mark.parametrize("wrong", [{"rand_ops": -1}, {"rand_magnitude": 31}])
def test_a_setting_of_randaugment_out_of_range_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Augmentation(**wrong)  # type: ignore[arg-type]


def test_crops_grow_in_steps_to_the_full_side_and_stay_there() -> None:
    sides = Progressive(start=0.57, until=0.8).sides(224, 20)
    assert sides[0] == 128
    assert sides == sorted(sides)
    assert set(sides) == {128, 160, 192, 224}
    assert sides[16:] == [224] * 4, "the last fifth"
    assert Progressive(start=0.5, until=1.0, step=8).sides(30, 4) == [16, 16, 24, 24]
    assert Progressive(start=0.1, until=0.5).sides(64, 1) == [32], "at least one step"


def test_a_smaller_view_shows_as_much() -> None:
    assert View(resize=256, crop=224).scaled(112) == View(resize=128, crop=112)
    assert View(resize=256, crop=224).scaled(224) == View(resize=256, crop=224)
