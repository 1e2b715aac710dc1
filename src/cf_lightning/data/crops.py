"""What every view begins with: the part of a picture that is seen, at its size."""

from torch import Tensor, empty, nn
from torchvision.transforms import InterpolationMode, v2

from cf_lightning.data.picture import Box, Picture
from cf_lightning.data.video.base import resized


class Resize(nn.Module):
    """torchvision's ``Resize`` of the short side, of a picture or of (..., 3, H, W) uint8.

    Args:
        short_side: in pixels.
        mode: of the interpolation, antialiased.
        gap: as ``Picture.resized`` takes it.
    """

    def __init__(self, short_side: int, mode: InterpolationMode, gap: float | None) -> None:
        super().__init__()
        self.short_side, self.mode, self.gap = short_side, mode, gap

    def forward(self, image: Picture | Tensor) -> Tensor:
        """(..., 3, h, w) uint8, the short side as wanted."""
        picture = Picture.of(image)
        size = resized(picture.height, picture.width, self.short_side)
        return picture.resized(picture.box, size, self.mode, self.gap)


class RandomResizedCrop(v2.RandomResizedCrop):  # type: ignore[misc]
    """torchvision's, with the same draws, which come before the picture is decoded.

    Args:
        side: of the square crop in pixels.
        min_area: the smallest share of the picture that it shows.
        mode: of the interpolation, antialiased.
        gap: as ``Picture.resized`` takes it.
    """

    def __init__(self, side: int, min_area: float, mode: InterpolationMode, gap: float | None) -> None:
        super().__init__(side, scale=(min_area, 1.0), interpolation=mode, antialias=True)
        self.gap = gap

    def forward(self, image: Picture | Tensor) -> Tensor:
        """(..., 3, side, side) uint8."""
        picture = Picture.of(image)
        shape = empty(1, picture.height, picture.width, device="meta")  # all that the draws depend on
        box = Box(**self.make_params([shape]))
        return picture.resized(box, (self.size[0], self.size[1]), self.interpolation, self.gap)
