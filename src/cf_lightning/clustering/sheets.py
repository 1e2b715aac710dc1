"""Pictures of clusters: the images nearest to, at random in, and farthest from their centroids."""

import io
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from cf_lightning.clustering.quality import Members
from cf_lightning.config import Component
from cf_lightning.data.views import View

if TYPE_CHECKING:
    from PIL import Image, ImageDraw
    from torch import Tensor

HEADINGS = {
    "nearest": "nearest to the centroid",
    "random": "at random",
    "farthest": "farthest from the centroid",
}
PLACES = tuple(HEADINGS)
MARGIN, TEXT = 16, 190  # of a page, in pixels
SOFT = "#777777"


class Choice(Component):
    """Which clusters are shown, and which of their images.

    Attributes:
        clusters: a third the largest, a third drawn at random, a third the smallest that are not empty.
        columns: images nearest to the centroid, as many drawn at random, as many farthest from it.
        tile: side of an image in pixels.
    """

    clusters: int = Field(ge=1)
    columns: int = Field(default=5, ge=1, le=50)
    tile: int = Field(ge=16, le=1024)

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

    def tiles(
        self, members: Members, cluster: int, seed: int, load: "Callable[[int], Tensor]"
    ) -> "dict[str, list[Image.Image]]":
        """The same as square pictures, or filmstrips of them from top to bottom.

        Args:
            members: of all clusters.
            cluster: whose.
            seed: of those drawn at random.
            load: decodes a row to (F, 3, H, W) uint8: one picture, or several of a video.
        """
        from torchvision.transforms.v2.functional import to_pil_image

        square = View(resize=self.tile, crop=self.tile).build()

        def tile(row: int) -> "Image.Image":
            frames: Tensor = square(load(row))
            strip: Image.Image = to_pil_image(frames.transpose(0, 1).flatten(1, 2))  # (3, F * tile, tile)
            return strip

        rows = self.rows(members, cluster, seed)
        return {place: [tile(row) for row in rows[place].tolist()] for place in rows}


class Gallery(Choice):
    """Small pictures of many clusters, for the report that one browses: each strip a WebP file.

    WebP at quality 75 takes two thirds of the bytes of a JPEG that looks as good (48 pixels: 2.7 kB for
    five photos against 3.6 kB, 32.5 dB against 31.8 dB).
    """

    clusters: int = Field(default=1000, ge=1)
    tile: int = Field(default=48, ge=16, le=256)

    def strip(self, tiles: "Sequence[Image.Image]") -> bytes | None:
        """These images side by side without a gap, encoded; ``None`` where there are none."""
        from PIL import Image

        if not tiles:
            return None
        strip, encoded = Image.new("RGB", (self.tile * len(tiles), tiles[0].height)), io.BytesIO()
        for column, tile in enumerate(tiles):
            strip.paste(tile, (self.tile * column, 0))
        strip.save(encoded, "WEBP", quality=75, method=2)
        return encoded.getvalue()


@dataclass(frozen=True)
class Line:
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


class Sheets(Choice):
    """Contact sheets of a few clusters, for papers and dashboards."""

    clusters: int = Field(default=24, ge=1)
    tile: int = Field(default=96, ge=16, le=1024)

    GAP: ClassVar[int] = 3  # pixels between images

    def montage(self, tiles: "Sequence[Image.Image]") -> "Image.Image":
        """These images in a row; white where there are fewer than columns."""
        from PIL import Image

        step = self.tile + self.GAP
        height = tiles[0].height if tiles else self.tile
        picture = Image.new("RGB", (step * self.columns - self.GAP, height), "white")
        for column, tile in enumerate(tiles):
            picture.paste(tile, (step * column, 0))
        return picture

    def sheet(self, lines: Sequence[Line]) -> "Image.Image":
        """A page: a line for each cluster, with its number, size and themes in front of its images."""
        from PIL import Image, ImageDraw

        left, top = TEXT + MARGIN, MARGIN + 18
        nearest = lines[0].pictures["nearest"]
        width, height = nearest.width + 6 * self.GAP, nearest.height + 4 * self.GAP
        size = (left + 3 * width + MARGIN, top + height * len(lines) + MARGIN)
        page = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(page)
        for column, heading in enumerate(HEADINGS.values()):
            _write(draw, (left + column * width, MARGIN - 4), heading, 12, SOFT)
        for place, line in enumerate(lines):
            self._describe(draw, (MARGIN, top + place * height), line)
            for column, picture in enumerate(line.pictures.values()):
                page.paste(picture, (left + column * width, top + place * height))
        return page

    def _describe(self, draw: "ImageDraw.ImageDraw", corner: tuple[int, int], line: Line) -> None:
        left, top = corner
        _write(draw, (left, top - 2), f"cluster {line.cluster}", 15, "black")
        _write(draw, (left, top + 19), f"{line.size:,} samples ({line.chosen})", 12, SOFT)
        themes = textwrap.wrap(", ".join(line.themes), 28)[: (line.pictures["nearest"].height - 36) // 15]
        for number, text in enumerate(themes):
            _write(draw, (left, top + 39 + 15 * number), text, 12, "black")


def _write(draw: "ImageDraw.ImageDraw", place: tuple[int, int], text: str, size: int, colour: str) -> None:
    """With the font that matplotlib brings: it knows more alphabets than Pillow's own."""
    from matplotlib.font_manager import findfont
    from PIL import ImageFont

    draw.text(place, text, fill=colour, font=ImageFont.truetype(findfont("DejaVu Sans"), size))
