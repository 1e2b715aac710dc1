"""A cluster report as one HTML file with its pictures inside."""

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cf_lightning.clustering.sheets import Strip

if TYPE_CHECKING:
    from PIL import Image

TEXT = ("majority", "top_labels", "top_tags")  # columns of the list that are no numbers
HIDDEN = ("nearest_images",)


def write_page(
    path: Path, origin: str, report: dict[str, Any], table: pa.Table, strips: list[Strip], most: int = 1000
) -> None:
    """Write the page.

    Args:
        path: of the file; ``sizes.png`` and ``inertia.png`` lie beside it.
        origin: of the images.
        report: the content of ``report.json``.
        table: a row for each cluster, row i is cluster i.
        strips: the clusters to show.
        most: clusters that are listed, the largest first.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["inline"] = _inline
    shown = table.take(pa.array([strip.cluster for strip in strips])).to_pylist()
    figures = {name: path.with_name(f"{name}.png").read_bytes() for name in ("sizes", "inertia")}
    page = environment.get_template("report.html").render(
        origin=origin,
        report=report,
        columns=[name for name in table.column_names if name not in HIDDEN],
        text=TEXT,
        rows=table.sort_by([("train", "descending")]).slice(0, most).to_pylist(),
        shown=[{"strip": strip, "row": row} for strip, row in zip(strips, shown, strict=True)],
        figures={name: _url(data, "png") for name, data in figures.items()},
    )
    path.write_text(page, encoding="utf-8")


def _inline(picture: "Image.Image") -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return _url(buffer.getvalue(), "jpeg")


def _url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
