"""A teacher that was trained for longer: what the student's training time alone would have brought."""

from pydantic import Field

from cf_lightning.chain import Chain
from cf_lightning.contestants.base import Contestant, Entry, of
from cf_lightning.plan import Plan


class Longer(Contestant):
    """The teacher's own training from the start with a stretched schedule (Yan et al. 2020, N_pre 2x).

    Steps and warm-up are shares of the training, so that they stretch with it.

    Attributes:
        times: as many epochs.
    """

    times: float = Field(default=2.0, gt=1)

    def enter(self, name: str, plan: Plan, chain: Chain) -> list[Entry]:
        """One more training for each teacher."""
        entries = []
        for teacher in chain.pretrained:
            if teacher.data is None:
                raise self._refused(name, teacher, "a teacher that is trained here")
            node = {**teacher.node, "epochs": round(self.times * teacher.node["epochs"])}
            trunk = plan.add("train", node, of(name, teacher), **teacher.trunk.inputs)
            made_by = {"pretrain": [trunk]}
            entries.append(Entry(of(name, teacher), node["model"], trunk, chain.k, made_by=made_by))
        return entries
