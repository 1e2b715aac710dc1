"""Published weights as the teacher."""

import json
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from cf_lightning.data.index import Index
from cf_lightning.models.base import TrunkRecipe
from cf_lightning.stages.base import Stage


class PublishedTrunk(Stage):
    """Publish a library's weights, with their mean and std, as any trained trunk.

    Attributes:
        model: the architecture, of a library that publishes weights.
        name: of the network; ``model`` reads it.
        weights: the library's tag; ``DEFAULT`` is the one that it recommends.
        pretrained: false takes a random initialisation instead, where the weights cannot be had.
        seed: of that initialisation.
    """

    model: TrunkRecipe
    name: str
    weights: str = "DEFAULT"
    pretrained: bool = True
    seed: int = Field(default=0, ge=0)

    RANKS: ClassVar[Literal["all", "one"]] = "one"

    def disk_bytes(self, **indexes: Index) -> int | None:
        """Of the trunk in float32; a network that does not exist is found here, before anything runs."""
        return self.model.weight_bytes()

    def run(self, out: Path, **inputs: Path) -> None:
        """Fetch or initialise, and say which of the two in the facts."""
        import torch

        torch.manual_seed(self.seed)
        if self.pretrained:
            trunk, tag = self.model.pretrained(self.weights)
            facts = {"pretrained": True, "weights": tag}
        else:
            trunk, facts = self.model.build(), {"pretrained": False, "seed": self.seed}
        trunk.save(out)
        (out / "facts.json").write_text(json.dumps(facts))
