"""What a configuration may name: components of this package, and of packages that ``security.allow`` adds.

The list reaches the processes of a run by their environment: what they replay are files of the store
(``job.json``), which must not be able to extend it.
"""

import importlib
import os
import re
from collections.abc import Iterator
from typing import Any

from cf_lightning.errors import ConfigError

OWN = "cf_lightning"
VARIABLE = "CF_LIGHTNING_ALLOW"
NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def admit(cfg: dict[str, Any]) -> None:
    """Take over what a resolved configuration allows, and look at all of it before anything is built.

    Raises:
        ConfigError: as ``allow`` and ``check_targets``.
    """
    allow(cfg["security"]["allow"])
    check_targets(cfg)


def allow(packages: Any) -> None:
    """Let ``_target_`` name classes of these packages, too, in this process and in those that it starts.

    Raises:
        ConfigError: it is no list of names of packages.
    """
    if not isinstance(packages, list) or not all(_is_name(one) for one in packages):
        raise ConfigError(f"security.allow={packages}: a list of names of packages, as in [my_package]")
    os.environ.pop(VARIABLE, None)
    if packages:
        os.environ[VARIABLE] = ",".join(packages)


def allowed() -> list[str]:
    """The packages whose classes may be named."""
    return [OWN, *filter(None, os.environ.get(VARIABLE, "").split(","))]


def check_targets(node: Any, key: str = "") -> None:
    """Look at every ``_target_`` of a configuration, and import nothing.

    Args:
        node: resolved.
        key: where it stands in the configuration, for messages.

    Raises:
        ConfigError: one is outside of the allowed packages.
    """
    for place, target in targets(node, key):
        if not _is_name(target) or not _is_allowed(target):
            raise ConfigError(
                f"{place}={target}: only components of {', '.join(allowed())} are built; "
                "those of a package of your own with security.allow=[PACKAGE]"
            )


def check_classes(node: Any, key: str, parent: type) -> None:
    """Import what every ``_target_`` of a configuration names: a class that an allowed package defines.

    A name such as ``cf_lightning.config.os.system`` walks out of a package that is allowed.

    Args:
        node: resolved.
        key: where it stands in the configuration, for messages.
        parent: of all that is built.

    Raises:
        ConfigError: one is outside of the allowed packages, is not there, or is something else.
    """
    check_targets(node, key)
    for place, target in targets(node, key):
        module, _, name = target.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"{place}={target}: there is no such class ({error})") from error
        if not (isinstance(found, type) and issubclass(found, parent) and _is_allowed(found.__module__)):
            raise ConfigError(f"{place}={target}: no {parent.__name__} of {', '.join(allowed())}")


def targets(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The key and the value of every ``_target_`` in a configuration."""
    if isinstance(node, list):
        for number, item in enumerate(node):
            yield from targets(item, f"{key}[{number}]")
    if isinstance(node, dict):
        for name, value in node.items():
            place = f"{key}.{name}".removeprefix(".")
            if name == "_target_":
                yield place, value
            else:
                yield from targets(value, place)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _is_allowed(target: str) -> bool:
    return any(f"{target}.".startswith(f"{package}.") for package in allowed())
