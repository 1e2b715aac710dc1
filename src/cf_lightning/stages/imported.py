"""Your own weights as the teacher."""

import json
import logging
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError, printable
from cf_lightning.models.base import TrunkRecipe
from cf_lightning.models.state_dict import Match, check_file, match, read_tensors
from cf_lightning.stages.base import Stage

log = logging.getLogger(__name__)

Channel = Annotated[float, Field(gt=0, lt=1)]
Channels = Annotated[list[Channel], Field(min_length=3, max_length=3)]


class ImportTrunk(Stage):
    """Read a state dict into a trunk, and say what of it fitted.

    Attributes:
        model: the architecture.
        name: of the network, where the YAML's ``model`` asks for it.
        path: ``.safetensors``, or what ``torch.save`` wrote of a state dict; no pickled modules.
        prefix: of the trunk's names in the file; null is the one under which most tensors fit.
        threshold: share of the trunk's tensors that have to fit; the others keep a random initialisation.
        mean: of the inputs that the network was trained with, RGB in [0, 1]; null is the architecture's.
        std: of the same.
    """

    model: TrunkRecipe
    name: str | None = None
    path: str
    prefix: Annotated[str, Field(min_length=0)] | None = None
    threshold: float = Field(default=1.0, gt=0, le=1)
    mean: Channels | None = None
    std: Channels | None = None

    RANKS: ClassVar[Literal["all", "one"]] = "one"
    VERSION: ClassVar[int] = 2

    def check(self, **indexes: Index) -> None:
        """The file is there and whole; whether its tensors fit is known when they are read."""
        check_file(self.path)

    def disk_bytes(self, **indexes: Index) -> int | None:
        """Of a copy of the trunk in float32; a network that does not exist is found here."""
        return self.model.weight_bytes()

    def run(self, out: Path, **inputs: Path) -> None:
        """Load, compare, and publish as any trained trunk."""
        import torch

        torch.manual_seed(0)  # of the tensors that a lower threshold leaves out
        trunk = self.model.build()
        found = match(trunk.network.state_dict(), read_tensors(self.path), self.prefix)
        self._say(found)
        trunk.network.load_state_dict(found.weights, strict=False)
        for buffer, values in ((trunk.mean, self.mean), (trunk.std, self.std)):
            if values is not None:
                buffer.copy_(torch.tensor(values).view_as(buffer))
        trunk.save(out)
        facts = {
            "matched": found.fitting,
            "tensors": found.wanted,
            "missing": found.missing,
            "reshaped": found.reshaped,
            "unused": found.unused,
            "prefix": found.prefix,
        }
        (out / "facts.json").write_text(json.dumps(facts))

    def _say(self, found: Match) -> None:
        """Refuse what fits too little, and warn of what does not fit."""
        said = printable(f"teacher.path={self.path}: {found} ({self.model!r})")  # names of the file
        if found.share < self.threshold:
            raise ConfigError(
                f"{said}; threshold={self.threshold}. Set teacher.name (or the group model@teacher.model) "
                "to the network that the weights belong to"
            )
        if found.equals:
            log.warning(
                "%s; as many fit under %s: set teacher.prefix", said, printable(", ".join(found.equals))
            )
        elif found.missing or found.reshaped or found.unused:
            log.warning("%s", said)
