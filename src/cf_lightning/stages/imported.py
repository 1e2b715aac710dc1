"""Your own weights as the teacher."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError
from cf_lightning.models.base import TrunkRecipe
from cf_lightning.stages.base import Stage

if TYPE_CHECKING:
    from torch import Tensor

# what DDP and other frameworks put in front of a name
PREFIXES = ("module.", "model.", "backbone.", "encoder_q.", "trunk.", "network.")
CONTAINERS = ("state_dict", "model", "teacher", "student")  # where checkpoints keep the state dict

Channel = Annotated[float, Field(gt=0, lt=1)]


class ImportTrunk(Stage):
    """Read a state dict into a trunk; every tensor of the trunk must be there in its shape.

    Attributes:
        model: the architecture.
        path: ``.safetensors``, or a ``.pth``/``.pt`` that loads with ``weights_only``; no pickled modules.
        mean: of the inputs that the network was trained with, RGB in [0, 1].
        std: of the same.
    """

    model: TrunkRecipe
    path: str
    mean: list[Channel] = Field(min_length=3, max_length=3)
    std: list[Channel] = Field(min_length=3, max_length=3)

    RANKS: ClassVar[Literal["all", "one"]] = "one"

    def check(self, **indexes: Index) -> None:
        """The file is there; whether it fits is known when it is read."""
        if not Path(self.path).is_file():
            raise ConfigError(f"teacher.path={self.path}: there is no such file")

    def run(self, out: Path, **inputs: Path) -> None:
        """Load, compare, and publish as any trained trunk."""
        import torch

        trunk = self.model.build()
        wanted = trunk.network.state_dict()
        found = _stripped(self._read())
        missing = [name for name, tensor in wanted.items() if name not in found and tensor.ndim]
        other = [name for name in wanted if name in found and found[name].shape != wanted[name].shape]
        if missing or other:
            fits = sum(name in found for name in wanted) - len(other)
            raise ConfigError(
                f"teacher.path={self.path}: {fits} of the {len(wanted)} tensors of the model fit; "
                f"missing: {missing[:3] or 'none'}; of another shape: {other[:3] or 'none'}; "
                f"the file begins with {list(found)[:3]}. Set teacher.model to the network it belongs to"
            )
        trunk.network.load_state_dict({name: found.get(name, tensor) for name, tensor in wanted.items()})
        trunk.mean.copy_(torch.tensor(self.mean).view(3, 1, 1))
        trunk.std.copy_(torch.tensor(self.std).view(3, 1, 1))
        trunk.save(out)
        unused = [name for name in found if name not in wanted]
        facts = {"matched": len(wanted), "unused": len(unused)}
        (out / "facts.json").write_text(json.dumps(facts))

    def _read(self) -> "dict[str, Tensor]":
        import pickle

        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            if self.path.endswith(".safetensors"):
                return load_file(self.path)
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ConfigError(
                f"teacher.path={self.path}: not a state dict that can be read without executing it "
                f"({reason}); save model.state_dict() with torch.save or safetensors"
            ) from error
        for name in CONTAINERS:
            if isinstance(content, dict) and isinstance(content.get(name), dict):
                content = content[name]
        if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
            raise ConfigError(f"teacher.path={self.path}: holds no state dict (names and tensors)")
        return content


def _stripped(weights: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Names without ``PREFIXES``."""
    result = {}
    for name, tensor in weights.items():
        while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
            name = name.removeprefix(prefix)
        result[name] = tensor
    return result
