"""The contestants that the method itself brings: random weights, teacher, student."""

from pydantic import Field

from cf_lightning.chain import Chain
from cf_lightning.contestants.base import Contestant, Entry, about, of
from cf_lightning.plan import Plan


class Random(Contestant):
    """The student's architecture as it is initialised.

    Attributes:
        seed: of the weights.
    """

    seed: int = Field(default=0, ge=0)

    def enter(self, name: str, plan: Plan, chain: Chain) -> list[Entry]:
        """Nothing to plan."""
        return [Entry(name, chain.cfg["model"], None, chain.k, random_seed=self.seed)]


class Pretrained(Contestant):
    """The teacher, or each of several."""

    def enter(self, name: str, plan: Plan, chain: Chain) -> list[Entry]:
        """Nothing to plan."""
        return [
            Entry(
                of(name, teacher),
                teacher.node["model"],
                teacher.trunk,
                chain.k,
                made_by={"pretrain": [teacher.trunk]},
                details=about([teacher]),
            )
            for teacher in chain.teachers
        ]


class Student(Contestant):
    """The network that was trained on the clusters."""

    def enter(self, name: str, plan: Plan, chain: Chain) -> list[Entry]:
        """Nothing to plan."""
        made_by = {
            "pretrain": [teacher.trunk for teacher in chain.teachers],
            "extract": [teacher.extracted for teacher in chain.teachers],
            "cluster": chain.clusterings,
            "clusterfit": [chain.student],
        }
        model = chain.cfg["model"]
        return [Entry(name, model, chain.student, chain.k, made_by=made_by, details=about(chain.teachers))]
