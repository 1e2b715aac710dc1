"""``manifest.json``: what made an artifact, of what, and the checksums of its files and of itself."""

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from cf_lightning.errors import StoreError

MANIFEST = "manifest.json"
# 1: without a format, without a checksum of itself, inputs named by their keys alone. The fields ``format``
# and ``sha256`` mean the same in every later format, so that an older release can say what it cannot read.
FORMAT = 2


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or str(path) != name or "\0" in name:
        raise ValueError("not the name of a file inside the artifact")
    return name


class _File(BaseModel):
    model_config = ConfigDict(strict=True)

    bytes: int = Field(ge=0)
    sha256: list[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]]


class _Manifest(BaseModel):
    """What the fields hold; there may be more."""

    model_config = ConfigDict(strict=True)

    format: int = Field(default=1, ge=1, le=FORMAT)
    title: str = ""
    made: str = ""
    seconds: float = Field(default=0.0, ge=0)
    inputs: dict[str, str] = {}
    config: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    files: dict[Annotated[str, AfterValidator(_inside)], _File]


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest as JSON has it, with its format and the sha256 of all of it."""
    plain: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **manifest}))
    return {**plain, "sha256": _own_sum(plain)}


def parse(text: bytes, place: str, remedy: str) -> dict[str, Any]:
    """What ``sealed`` made, or a release before it.

    Args:
        text: of the file.
        place: of the file, for messages.
        remedy: what to do if it is damaged.

    Raises:
        StoreError: it is damaged, or of a later release.
    """
    try:
        manifest = json.loads(text)
        whole = isinstance(manifest, dict) and manifest.get("sha256") == _own_sum(manifest)
        if whole and isinstance(manifest["format"], int) and manifest["format"] > FORMAT:
            raise StoreError(
                f"{place}: written by a later release (format {manifest['format']}; this one reads up to "
                f"{FORMAT}): update cf_lightning or use another store"
            )
        found = _Manifest.model_validate(manifest)
        if not whole and ("sha256" in manifest or found.format > 1):
            raise ValueError("its sha256 is another one")
    except (ValueError, KeyError, RecursionError) as error:
        raise StoreError(f"{place} was changed after it was made ({_problem(error)}); {remedy}") from None
    return dict(manifest)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest in an artifact's folder; ``None`` when there is no such folder.

    Raises:
        StoreError: it is damaged, of a later release, or not there.
    """
    file = folder / MANIFEST
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        if folder.exists():
            raise StoreError(f"{file} is missing; {remedy(folder)}") from None
        return None
    return parse(text, str(file), remedy(folder))


def remedy(folder: Path) -> str:
    """What to do about a damaged artifact."""
    return f"remove {folder} to have it made again; python -m cf_lightning.store verify finds all such damage"


def _own_sum(manifest: dict[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _problem(error: Exception) -> str:
    """One line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'all of it'}: {first['msg']}"
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
