"""What the network sees of an image: the deterministic view, and the random one for training."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from cf_lightning.config import Component

if TYPE_CHECKING:
    from torch import nn


class View(Component):
    """Resize the short side, then crop the centre: extraction, validation, test.

    Attributes:
        resize: the short side in pixels.
        crop: the side of the square centre crop in pixels.
        interpolation: of the resize, antialiased.
        reducing_gap: a JPEG is decoded at 1/2, 1/4 or 1/8 as long as what is seen keeps so many times the
            pixels a side that it is resized to (as ``reducing_gap`` of Pillow's ``thumbnail``); ``None``
            decodes all of them.
    """

    resize: int = Field(default=256, ge=1)
    crop: int = Field(default=224, ge=1)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    reducing_gap: float | None = Field(default=2.0, ge=1)

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.crop > self.resize:
            raise ValueError(f"crop={self.crop} is larger than resize={self.resize}")
        return self

    @property
    def views(self) -> int:
        """Of each sample at extraction and test."""
        return 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample as ``build`` makes it."""
        return (3, self.crop, self.crop)

    def single(self) -> "View":
        """The same with one view of each sample: validation."""
        return self

    def scaled(self, side: int) -> Self:
        """The same with crops of ``side`` pixels that show as much."""
        return self.model_copy(update={"crop": side, "resize": round(self.resize * side / self.crop)})

    def build(self) -> "nn.Module":
        """A module from a ``Picture`` or (3, H, W) uint8 to (3, crop, crop) uint8."""
        from torchvision.transforms import InterpolationMode, v2

        from cf_lightning.data.crops import Resize

        resize = Resize(self.resize, InterpolationMode(self.interpolation), self.reducing_gap)
        view: nn.Module = v2.Compose([resize, v2.CenterCrop(self.crop)])
        return view

    def layout(self) -> "list[nn.Module]":
        """What comes last in every view of a sample, random ones included."""
        return []


class Augmentation(Component):
    """Random resized crop, flip, RandAugment, colour jitter: training (Goyal et al. 2019, section 6).

    The size of the crop is the view's, so that training and test end with the same resolution. All frames of
    a clip are changed alike.

    Attributes:
        min_area: the smallest share of the image's area that a crop may show; ``None`` changes no
            scale: resized as the view does, then cropped at random (Jigsaw's recipe in VISSL).
        flip: probability of a horizontal flip.
        rand_ops: operations of RandAugment on each image (Cubuk et al. 2020; 2 there); 0 switches it off.
        rand_magnitude: strength of each of them.
        jitter: strength of brightness, contrast and saturation jitter; 0 switches it off.
        hue: strength of the hue jitter.
    """

    min_area: float | None = Field(default=0.08, gt=0, le=1)
    flip: float = Field(default=0.5, ge=0, le=1)
    rand_ops: int = Field(default=0, ge=0)
    rand_magnitude: int = Field(default=9, ge=0, le=30)
    jitter: float = Field(default=0.0, ge=0, le=1)
    hue: float = Field(default=0.0, ge=0, le=0.5)

    def build(self, view: View) -> "nn.Module":
        """A module as ``View.build`` makes, that draws from torch's global generator.

        Of a ``ClipView`` from (T, 3, h, w) to (3, T, crop, crop).
        """
        from torchvision.transforms import InterpolationMode, v2

        from cf_lightning.data.crops import RandomResizedCrop, Resize

        mode = InterpolationMode(view.interpolation)
        steps: list[nn.Module] = [Resize(view.resize, mode, view.reducing_gap), v2.RandomCrop(view.crop)]
        if self.min_area is not None:
            steps = [RandomResizedCrop(view.crop, self.min_area, mode, view.reducing_gap)]
        steps.append(v2.RandomHorizontalFlip(self.flip))
        if self.rand_ops:  # torchvision turns and shears tensors bilinearly at best, whatever the view's mode
            bilinear = InterpolationMode.BILINEAR
            steps.append(v2.RandAugment(self.rand_ops, self.rand_magnitude, interpolation=bilinear))
        if self.jitter or self.hue:
            steps.append(v2.ColorJitter(self.jitter, self.jitter, self.jitter, self.hue))
        view_of_training: nn.Module = v2.Compose([*steps, *view.layout()])
        return view_of_training
