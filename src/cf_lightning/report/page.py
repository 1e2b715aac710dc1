"""From a template to a page: one HTML file with everything inside."""

import math
from pathlib import Path
from typing import Any

from cf_lightning.results import replace_file


def write_page(path: Path, template: str, **content: Any) -> None:
    """Fill a template of this folder and put the page in its place in one atomic step.

    Whatever ``content`` brings is escaped; an SVG of our own drawing is let through with ``| safe``.

    Args:
        path: of the HTML file.
        template: a file of this folder, such as ``run.html``.
        content: what the template names; a name that is missing is an error.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    environment.filters |= {"number": number, "percent": percent, "duration": duration}
    replace_file(path, environment.get_template(template).render(content))


def number(value: float | None) -> str:
    """Four digits of a fraction, all of a whole number; a dash for what is not there."""
    if value is None or math.isnan(value):
        return "-"
    return f"{int(value):,}" if value == int(value) else f"{value:,.4g}"


def percent(value: float | None) -> str:
    """A fraction in percent, with one decimal."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds is None:
        return "-"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
