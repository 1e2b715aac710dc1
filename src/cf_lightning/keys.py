"""The identity of an artifact: a hash of what it means, computed without importing what makes it.

Two structural rules keep a key free of machines and places (there is no ignore list):

* a node named ``runtime`` changes only the machine and is left out;
* a location is replaced by what lies there: a ``data`` node is left out because its index enters as
  an input, and the value of a key named ``path`` becomes the sha256 of that file.
"""

import ast
import hashlib
import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

from cf_lightning.errors import ConfigError


def artifact_key(node: dict[str, Any], inputs: dict[str, str]) -> str:
    """The key of the artifact that stage ``node`` makes from the artifacts with keys ``inputs``."""
    return digest({"config": canonical(node), "inputs": inputs})


def digest(value: Any) -> str:
    """Twenty hexadecimal digits of the sha256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def canonical(node: Any) -> Any:
    """``node`` with classes replaced by class and version, without machine and without places."""
    if isinstance(node, list):
        return [canonical(item) for item in node]
    if not isinstance(node, dict):
        return node
    result = {}
    for name, value in node.items():
        if name in ("runtime", "data"):
            continue
        if name == "_target_":
            result[name] = f"{value} {class_version(value)}"
        elif name == "path" and isinstance(value, str):
            result[name] = file_sha256(value)
        else:
            result[name] = canonical(value)
    return result


@cache
def class_version(target: str) -> str:
    """``VERSION`` as written in the class's source; for classes outside the package, their file's sha256."""
    file, name = _source_file(target)
    if not target.startswith("cf_lightning."):
        return file_sha256(str(file))
    for statement in ast.parse(file.read_text()).body:
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return str(_version_of(statement))
    raise ConfigError(f"_target_={target}: {file.name} has no class {name}")


def _version_of(definition: ast.ClassDef) -> int:
    for line in definition.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value:
            names, value = [line.target.id], line.value
        elif isinstance(line, ast.Assign):
            names, value = [t.id for t in line.targets if isinstance(t, ast.Name)], line.value
        else:
            continue
        if "VERSION" in names and isinstance(value, ast.Constant):
            return int(str(value.value))
    return 1


def _source_file(target: str) -> tuple[Path, str]:
    """The file that a dotted path leads to and the name inside it, found on disk without an import."""
    first, *rest = target.split(".")
    spec = importlib.util.find_spec(first)
    if spec is None or spec.origin is None:
        raise ConfigError(f"_target_={target}: there is no module {first}")
    file = Path(spec.origin)
    while rest and file.name == "__init__.py":
        package, module = file.parent / rest[0] / "__init__.py", file.parent / f"{rest[0]}.py"
        if not (package.is_file() or module.is_file()):
            break
        file = package if package.is_file() else module
        rest = rest[1:]
    return file, rest[0] if rest else ""


def file_sha256(path: str) -> str:
    """The sha256 of a file's content; raises ``ConfigError`` when there is no such file."""
    if not Path(path).is_file():
        raise ConfigError(f"path={path}: there is no such file")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
