"""Contact sheets: the images nearest to, at random in, and farthest from the centroids of some clusters."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from cf_lightning.clustering.quality import Members
from cf_lightning.config import Component

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

HEADINGS = {
    "nearest": "nearest to the centroid",
    "random": "at random",
    "farthest": "farthest from the centroid",
}
PLACES = tuple(HEADINGS)
MARGIN, TEXT = 16, 190  # of a page, in pixels
SOFT = "#777777"


@dataclass(frozen=True)
class Strip:
    """One cluster on a sheet.

    Attributes:
        cluster: its number.
        chosen: why it is shown: largest, random, smallest.
        size: its images.
        themes: its typical names.
        pictures: for each of ``PLACES`` its images in a row.
    """

    cluster: int
    chosen: str
    size: int
    themes: list[str]
    pictures: "dict[str, Image.Image]"


class Sheets(Component):
    """Which clusters are shown, and how many images of each.

    Attributes:
        clusters: a third the largest, a third drawn at random, a third the smallest that are not empty.
        columns: images nearest to the centroid, as many drawn at random, as many farthest from it.
        tile: side of an image in pixels.
    """

    clusters: int = Field(default=24, ge=1)
    columns: int = Field(default=5, ge=1, le=50)
    tile: int = Field(default=96, ge=16, le=1024)

    GAP: ClassVar[int] = 3  # pixels between images

    def choose(self, sizes: np.ndarray, seed: int) -> dict[int, str]:
        """The clusters to show, by size from the largest on, and why each is shown."""
        order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
        count = min(self.clusters, len(order))
        third = count // 3
        middle = np.arange(third, len(order) - third)
        drawn = np.random.default_rng(seed).choice(middle, count - 2 * third, replace=False)
        why = dict.fromkeys(range(third), "largest") | dict.fromkeys(np.sort(drawn).tolist(), "random")
        why |= dict.fromkeys(range(len(order) - third, len(order)), "smallest")
        return {int(order[place]): reason for place, reason in why.items()}

    def rows(self, members: Members, cluster: int, seed: int) -> dict[str, np.ndarray]:
        """For each of ``PLACES`` the rows to show; no image is shown twice."""
        rows = members.cluster(cluster)
        nearest, rest = rows[: self.columns], rows[self.columns :]
        farthest, rest = rest[::-1][: self.columns], rest[: -self.columns]
        rng = np.random.default_rng([seed, cluster])
        drawn = rng.choice(rest, min(self.columns, len(rest)), replace=False)
        return dict(zip(PLACES, (nearest, drawn, farthest), strict=True))

    def montage(self, rows: np.ndarray, load: "Callable[[int], Image.Image]") -> "Image.Image":
        """These images in a row; white where there are fewer than columns."""
        from PIL import Image

        step = self.tile + self.GAP
        picture = Image.new("RGB", (step * self.columns - self.GAP, self.tile), "white")
        for column, row in enumerate(rows.tolist()):
            picture.paste(load(row), (step * column, 0))
        return picture

    def sheet(self, strips: Sequence[Strip]) -> "Image.Image":
        """A page: a line for each cluster, with its number, size and themes in front of its images."""
        from PIL import Image, ImageDraw

        left, top = TEXT + MARGIN, MARGIN + 18
        width, height = strips[0].pictures["nearest"].width + 6 * self.GAP, self.tile + 4 * self.GAP
        size = (left + 3 * width + MARGIN, top + height * len(strips) + MARGIN)
        page = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(page)
        for column, place in enumerate(PLACES):
            _write(draw, (left + column * width, MARGIN - 4), HEADINGS[place], 12, SOFT)
        for line, strip in enumerate(strips):
            self._describe(draw, (MARGIN, top + line * height), strip)
            for column, picture in enumerate(strip.pictures.values()):
                page.paste(picture, (left + column * width, top + line * height))
        return page

    def _describe(self, draw: "ImageDraw.ImageDraw", corner: tuple[int, int], strip: Strip) -> None:
        left, top = corner
        _write(draw, (left, top - 2), f"cluster {strip.cluster}", 15, "black")
        _write(draw, (left, top + 19), f"{strip.size:,} images ({strip.chosen})", 12, SOFT)
        lines = textwrap.wrap(", ".join(strip.themes), 28)[: (self.tile - 36) // 15]
        for number, line in enumerate(lines):
            _write(draw, (left, top + 39 + 15 * number), line, 12, "black")


def _write(draw: "ImageDraw.ImageDraw", place: tuple[int, int], text: str, size: int, colour: str) -> None:
    """With the font that matplotlib brings: it knows more alphabets than Pillow's own."""
    from matplotlib.font_manager import findfont
    from PIL import ImageFont

    draw.text(place, text, fill=colour, font=ImageFont.truetype(findfont("DejaVu Sans"), size))
