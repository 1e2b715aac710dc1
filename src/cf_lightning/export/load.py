"""``load_trunk``: a network from an exported folder or from an artifact of the store."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cf_lightning.errors import DataError, StoreError
from cf_lightning.models.base import TrunkRecipe
from cf_lightning.store import MANIFEST, verified

if TYPE_CHECKING:
    from cf_lightning.models.trunk import Trunk

RECIPES = "cf_lightning.models."  # nothing else is built from a file


class Exported(BaseModel):
    """``trunk.json``: all of an exported network but its weights.

    Attributes:
        model: the node of its architecture.
        feature_dim: D.
        mean: of the inputs, in [0, 1], RGB.
        std: of the inputs.
        view: what it saw in its training: resize, crop, interpolation, frames, ...
    """

    model_config = ConfigDict(extra="forbid")

    model: dict[str, Any]
    feature_dim: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    view: dict[str, Any]

    FILE: ClassVar[str] = "trunk.json"
    WEIGHTS: ClassVar[str] = "model.safetensors"


def load_trunk(path: str | Path) -> "Trunk":
    """The trunk of an exported folder, or of an artifact of the store, in evaluation mode.

    It takes uint8 (..., 3, H, W), or (..., 3, T, H, W) of clips, and gives (..., D) float32. Nothing in the
    folder is executed: the architecture is one of this package's recipes, the weights are safetensors.

    Raises:
        DataError: it is no such folder, or the weights belong to another architecture.
        StoreError: the weights of an artifact were changed.
    """
    folder = Path(path).expanduser()
    if (folder / Exported.FILE).exists():
        return _exported(folder).eval()
    try:
        manifest = verified(folder, ())
        has_trunk = "model" in manifest["config"]
    except (OSError, StoreError, KeyError):
        has_trunk = False
    if not has_trunk:
        raise DataError(
            f"{folder}: neither an exported network (with {Exported.FILE}) nor an artifact of the store that "
            f"has a trunk (pretrain, clusterfit, train), or its {MANIFEST} is damaged"
        )
    return trunk_of(folder, manifest)


def trunk_of(artifact: Path, manifest: dict[str, Any]) -> "Trunk":
    """The trunk of a finished artifact, in evaluation mode.

    Raises:
        StoreError: its weights were changed.
        DataError: they belong to another architecture.
    """
    trunk = recipe(manifest["config"]["model"], artifact / MANIFEST).build()
    verified(artifact, (trunk.FILE,))
    return trunk.load(artifact).eval()


def recipe(node: dict[str, Any], file: Path) -> TrunkRecipe:
    """The recipe that a node of ``model`` names, if it is one of this package's.

    Raises:
        DataError: it is something else.
    """
    target, settings = str(node.get("_target_")), {key: node[key] for key in node if key != "_target_"}
    module, _, name = target.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name) if target.startswith(RECIPES) else None
    except (ImportError, AttributeError):
        kind = None
    if not (isinstance(kind, type) and issubclass(kind, TrunkRecipe)):
        raise DataError(
            f"{file}: model._target_={target}: not a network of {RECIPES.rstrip('.')}; build your own and "
            f"give it the weights with Trunk.load"
        )
    try:
        return kind(**settings)
    except ValidationError as error:
        raise DataError(f"{file}: model={settings}: {error.errors()[0]['msg']}") from None


def _exported(folder: Path) -> "Trunk":
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file, weights = folder / Exported.FILE, folder / Exported.WEIGHTS
    try:
        described = Exported.model_validate_json(file.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]
        raise DataError(f"{file}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
    trunk = recipe(described.model, file).build()
    trunk.mean.copy_(torch.tensor(described.mean).view_as(trunk.mean))
    trunk.std.copy_(torch.tensor(described.std).view_as(trunk.std))
    try:
        trunk.network.load_state_dict(load_file(weights))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise DataError(f"{weights}: {str(error).splitlines()[0]}; export the network again") from None
    return trunk
