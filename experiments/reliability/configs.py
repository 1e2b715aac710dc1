"""Every key of ``conf/`` with every wrong value: one message that names it, before anything runs."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from case import Case, Outcome
from composed import composed
from omegaconf import DictConfig, ListConfig, OmegaConf

from cf_lightning.config import conf_dir
from cf_lightning.errors import UserError
from cf_lightning.pipeline import run
from cf_lightning.plan import Plan
from cf_lightning.settings import check_settings, resolved

CONF = conf_dir()
MISSING = "???"
UNKNOWN = "no_such_setting"
NULL_TOO = {
    *("root", "layer_dim", "reducing_gap", "fps", "view", "min_area", "logger", "curate", "expected"),
    *("split_seed", "partition", "slurm"),
}
FRACTIONS = {"fps", "init_timeout", "finish_timeout"}  # that stand there as whole numbers
YES_TOO = {"progress", "crops"}  # true is 1, and 1 is a number of crops
FREE = {"teachers", "contestant", "target"}  # whose names are the user's
OPEN = {"runtime.slurm.more"}  # that take any setting
WRONG: dict[str, Any] = {
    "a word": "many",
    "nothing": "",
    "a foreign word": "größe",
    "a huge number": 10**30,
    "less than nothing": -1,
    "none": 0,
    "one": 1,
    "a half": 0.5,
    "not a number": math.nan,
    "endless": math.inf,
    "yes": True,
    "null": None,
    "missing": MISSING,
    "a list": [1, "two"],
    "an empty list": [],
    "a node": {"a": 1},
    "a class": {"_target_": "no.such.Class"},
}
# what has to be said before an option can be used
NEEDED = {
    "curate/balanced": ["curate.size=10"],
    "teacher/file": ["teacher.path=weights.pth"],
    "model/torchvision": ["model.name=resnet18"],
    "model/torchvision_video": ["model.name=r3d_18", "data=video_tags", "target=[actions]"],
    "model/timm": ["model.name=vit_tiny_patch16_224"],
}


class Started(Exception):
    """All checks are passed."""


@dataclass(frozen=True)
class Place:
    """A key of a file.

    Attributes:
        file: below ``conf/``, without its ending.
        key: in the whole configuration.
        overrides: that bring the file into it.
    """

    file: str
    key: str
    overrides: tuple[str, ...]


def cases() -> Iterator[Case]:
    for place in places():
        yield Case("config", f"{place.file}: {place.key}", partial(attempt, place))


def places() -> Iterator[Place]:
    """Every key that a file of ``conf/`` writes, those of nodes included."""
    for path in sorted(CONF.rglob("*.yaml")):
        file = str(path.relative_to(CONF).with_suffix(""))
        if file.startswith("hydra/"):
            continue  # Hydra's own, which answers for it
        text = path.read_text()
        header = re.match(r"# @package (\S+)", text)
        group, _, option = file.rpartition("/")
        package, overrides = header.group(1) if header else group.replace("/", "."), [f"{group}={option}"]
        if group in ("", "experiment"):
            package, overrides = "", [] if file == "config" else [f"+{group}={option}"]
        elif group == "training":
            package, overrides = "pretrain", [f"training@pretrain={option}"] if option == "adamw" else []
        elif group in ("target", "transfer", "contestant"):
            overrides = [f"{group}=[{option}]"]
        if group != "experiment":
            overrides = ["+experiment=demo", *overrides]
        overrides += NEEDED.get(file, [])
        if "ideo" in text or "r2plus1d" in file:
            overrides += ["data=video_tags"] * (group != "data") + ["model=tiny_video"] * (group != "model")
            overrides += ["target=[actions]"] * (group != "target")
        written = {name: value for name, value in OmegaConf.to_container(OmegaConf.load(path)).items()}  # type: ignore[union-attr]
        for key in keys({n: v for n, v in written.items() if n not in ("defaults", "hydra")}):
            yield Place(file, f"{package.replace('_global_', '')}.{key}".strip("."), tuple(overrides))


def keys(node: Any, above: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield f"{above}{name}"
        if isinstance(value, dict):
            yield from keys(value, f"{above}{name}.")


@cache
def configuration(overrides: tuple[str, ...]) -> DictConfig:
    return composed(*overrides)


def attempt(place: Place, folder: Path) -> Outcome:
    """Every wrong value in turn."""
    found = [problem for what in (*WRONG, UNKNOWN) if (problem := try_value(place, what, folder))]
    return Outcome(lost=len(found), note="; ".join(found))


def try_value(place: Place, what: str, folder: Path, wholly: bool = True) -> str:
    """What is wrong with the answer to a wrong value; nothing if it is refused by name.

    Args:
        place: whose value is replaced.
        what: of ``WRONG``, or ``UNKNOWN`` for a setting that a node has not.
        folder: for store and run.
        wholly: let the run look at more than its settings where these do not refuse a value.
    """
    base = configuration(place.overrides)
    default = OmegaConf.select(base, place.key, throw_on_missing=False)
    key, value = place.key, WRONG.get(what)
    if what == UNKNOWN:
        if not isinstance(default, DictConfig) or place.key in FREE:
            return ""
        key, value = f"{place.key}.{UNKNOWN}", 3
    if place.key in OPEN and what in ("a node", UNKNOWN):
        return ""
    right = what != UNKNOWN and may_be_right(key.rpartition(".")[2], default, value)
    node: Any = OmegaConf.to_container(base)
    for name, put_there in ((key, value), ("runtime.store", folder / "store"), ("runtime.run_dir", folder)):
        if name == key or not key.startswith("runtime"):
            put(node, name, put_there if name == key else str(put_there))
    try:
        message = answer(node, wholly and not right)
    except Exception as error:
        return f"{key}={value}: {type(error).__name__}: {error}".replace("\n", " ")[:160]
    if message is None:
        return "" if right else f"{key}={value}: is taken where {default!r} was"
    if not names(message, key):
        return f"{key}={value}: is not named: {message[:160]}"
    return f"{key}={value}: something was stored" if list((folder / "store").glob("*/*")) else ""


def may_be_right(name: str, default: Any, value: Any) -> bool:
    """Whether a value is of a kind that may stand there, so that only its range is in question."""
    if value is None:
        return default is None or name in NULL_TOO
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if value == MISSING or isinstance(value, dict | list):
        return isinstance(default, ListConfig) and isinstance(value, list)
    if default == "auto":
        return isinstance(value, int)
    kinds = {int: (int, *([float] if name in FRACTIONS else [])), float: (int, float)}
    if isinstance(value, bool) or isinstance(default, bool):
        return isinstance(default, bool) is isinstance(value, bool) or name in YES_TOO
    return default is None or isinstance(value, kinds.get(type(default), type(default)))


def put(node: Any, key: str, value: Any) -> None:
    *above, last = key.split(".")
    for name in above:
        if not isinstance(node.get(name), dict):
            node[name] = {}
        node = node[name]
    node[last] = value


def answer(node: dict[str, Any], wholly: bool = True) -> str | None:
    """What a run says of a configuration; ``None`` where it would begin.

    Args:
        node: the configuration.
        wholly: look at the data, too; else at the settings alone.
    """
    cfg = OmegaConf.create(node)
    with patch.object(Plan, "run", side_effect=Started):
        try:
            check_settings(resolved(cfg))
            if wholly:
                run(cfg)
        except Started:
            return None
        except UserError as error:
            return str(error)
    return None


def names(message: str, key: str) -> bool:
    """The key is there, or the node that it is in and its name."""
    node, _, name = key.rpartition(".")
    return key in message or (node in message and re.search(rf"\b{re.escape(name)}\b", message) is not None)
