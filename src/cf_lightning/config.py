"""From a YAML node to an object: components, their validation, and the ``scaled`` resolver."""

import difflib
import os
import re
from pathlib import Path
from typing import Any, ClassVar

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, field_validator

from cf_lightning.errors import ConfigError
from cf_lightning.security import check_classes

LARGEST = 2**53  # which a double still tells from its neighbours


class Component(BaseModel):
    """What a ``_target_`` in ``conf/`` points to: a class that stores and validates its settings.

    The field annotations are the types and ranges that are checked before any stage runs, so a
    module that defines a component must import quickly: torch, lightning and faiss are imported
    inside the methods that need them.

    Attributes:
        VERSION: raised by hand when the same settings should give different results; part of the
            key of every artifact that the component has a part in.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        validate_default=True,
        protected_namespaces=(),
        allow_inf_nan=False,
        str_min_length=1,
    )
    VERSION: ClassVar[int] = 1

    @field_validator("*")
    @classmethod
    def _of_this_world(cls, value: Any) -> Any:
        """No whole number is larger than those that the libraries below take."""
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int) and abs(one) > LARGEST:
                raise ValueError(f"at most {LARGEST}")
        return value


def each_once(what: str) -> AfterValidator:
    """For the annotation of a setting: a list, if it is one, has nothing twice.

    Args:
        what: an entry is, for the message.
    """

    def check(value: Any) -> Any:
        if isinstance(value, list) and len(set(value)) < len(value):
            raise ValueError(f"{what} stands there twice; name each once")
        return value

    return AfterValidator(check)


def conf_dir() -> Path:
    """The folder of YAML files: inside an installed package, at the top of a checkout."""
    package = Path(__file__).resolve().parent
    checkout = package.parents[1] / "conf"
    return checkout if checkout.is_dir() and package.parent.name == "src" else package / "conf"


def register_resolvers() -> None:
    """Register ``${scaled:demo_value,paper_value}``: the value that the top-level ``scale`` asks for."""

    def scaled(demo: Any, paper: Any, *, _root_: Any) -> Any:
        return demo if _root_.get("scale") == "demo" else paper

    OmegaConf.register_new_resolver("scaled", scaled, replace=True)


def build(node: dict[str, Any], key: str) -> Any:
    """Instantiate a resolved config node and everything below it.

    Args:
        node: plain dictionary with a ``_target_``.
        key: where the node stands in the configuration, for messages.

    Raises:
        ConfigError: an unknown setting, a wrong type, a value out of range; a class that is missing, no
            component, or of no package that ``security.allow`` names.
    """
    check_classes(node, key, Component)
    try:
        return instantiate(node, _convert_="all")
    except (InstantiationException, TypeError) as error:  # a TypeError: Hydra's own settings of a node
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        raise ConfigError(_explain(error, key)) from None


def _explain(error: Exception, key: str) -> str:
    """One line for each setting that is wrong: its full key, its value, what would be right."""
    text = str(error)
    below = re.search(r"full_key: (\S+)", text)
    where = f"{key}.{below.group(1)}" if below else key
    cause = error.__cause__
    if target := re.search(r"(?:locating target|callable target, got) '(.*?)'(?:, | of )", text):
        return f"{where}._target_={target.group(1)}: there is no such class"
    if not isinstance(cause, ValidationError):
        return f"{where}: {text.splitlines()[0]}"
    lines = []
    for problem in cause.errors():
        unknown = problem["type"] == "extra_forbidden"
        place = [str(part) for part in problem["loc"] if unknown or not _is_kind(part)]
        name = ".".join([where, *place])
        if unknown:
            lines.append(f"{name}={problem['input']}: no such setting{_nearest(cause.title, problem)}")
        elif problem["type"] == "missing":
            lines.append(f"{name} is not set and has no default")
        else:
            lines.append(f"{name}={problem['input']}: {problem['msg']}")
    return "\n".join(_together(lines))


def _is_kind(part: int | str) -> bool:
    """Whether a place is no setting but one of the kinds of value it may have: ``float``, ``list[...]``."""
    return isinstance(part, str) and (part in ("int", "float", "str") or not part.isidentifier())


def _together(lines: list[str]) -> list[str]:
    """One line for a setting of several kinds, each of which says why it is not that."""
    said: dict[str, list[str]] = {}
    for line in lines:
        setting, _, problem = line.partition(": ")
        said.setdefault(setting, []).append(problem)
    return [": ".join(filter(None, (name, ", or ".join(problems)))) for name, problems in said.items()]


def _nearest(title: str, problem: Any) -> str:
    """A hint with the settings that the component named ``title`` does have."""
    fields = next((c.model_fields for c in _components(Component) if c.__name__ == title), {})
    close = difflib.get_close_matches(str(problem["loc"][-1]), fields, n=1)
    return f"; did you mean {close[0]}?" if close else f"; {title} has {', '.join(sorted(fields))}"


def _components(parent: type[Component]) -> list[type[Component]]:
    return [c for child in parent.__subclasses__() for c in (child, *_components(child))]
