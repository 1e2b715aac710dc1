"""What the README and the headers say can be typed."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cf_lightning.config import conf_dir

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
Compose = Callable[..., dict[str, Any]]


def commands() -> list[str]:
    """Every ``python -m cf_lightning ...`` of the README and of the experiments' headers."""
    texts = [README, *(f.read_text() for f in (conf_dir() / "experiment").glob("*.yaml"))]
    found = [m for text in texts for m in re.findall(r"python -m cf_lightning ([^\n`#|]+)", text)]
    found += re.findall(r"\| `((?:[a-z_/]+[=.]\S* ?)+)`", README)  # the tables' additions to a command
    return sorted({line.strip() for line in found if re.search(r"=\S", line)})


@pytest.mark.parametrize("line", commands())
def test_every_command_composes(line: str, compose: Compose) -> None:
    overrides = [word for word in shlex.split(line) if word not in ("-m", "python", "cf_lightning")]
    plain = []
    for word in overrides:
        key, _, value = word.partition("=")
        if key.startswith("hydra"):
            continue
        # of a sweep, the first job
        first = value if value.startswith("[") else value.removeprefix("choice(").split(",")[0]
        plain.append(f"{key}={first}" if value else f"{key}=x")
    if not any(word.startswith("+experiment") for word in plain):
        plain.insert(0, "+experiment=hashtag_r50")
    assert min(np.atleast_1d(compose(*plain)["cluster"]["k"])) >= 1


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.splitlines()) <= 250
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link
