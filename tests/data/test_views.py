from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

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
