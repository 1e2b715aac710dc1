"""Progressive resizing: the crops of a training grow with its epochs."""

from pydantic import Field

from cf_lightning.config import Component


class Progressive(Component):
    """The side of the training crop rises linearly from a part of the view's to all of it (Howard 2018).

    Early epochs cost less, and the last ones see what validation and test see. It is constant within an epoch
    and follows from the epoch's number alone.

    Attributes:
        start: side in the first epoch, as a share of the full one.
        until: share of the epochs after which all have the full side.
        step: sides are the nearest multiple of it, in pixels, or the full one.
    """

    start: float = Field(gt=0, lt=1)
    until: float = Field(gt=0, le=1)
    step: int = Field(default=32, ge=1)

    def sides(self, crop: int, epochs: int) -> list[int]:
        """The side in each epoch, in pixels.

        Args:
            crop: the full side.
            epochs: of the training.
        """
        shares = [self.start + (1 - self.start) * epoch / (self.until * epochs) for epoch in range(epochs)]
        nearest = [max(1, round(share * crop / self.step)) * self.step for share in shares]
        return [crop if share >= 1 else min(side, crop) for share, side in zip(shares, nearest, strict=True)]
