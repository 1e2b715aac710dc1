"""The contestants that the method itself brings: random weights, teacher, student."""

from pydantic import Field

from cf_lightning.chain import Chain
from cf_lightning.contestants.base import Contestant, Entry, about, of, trained
from cf_lightning.plan import Plan


class Random(Contestant):
    """The student's architecture as it is initialised; the teacher's where there is no student.

    Attributes:
        seed: of the weights.
    """

    seed: int = Field(default=0, ge=0)

    def enter(self, name: str, plan: Plan, chain: Chain) -> list[Entry]:
        """Nothing to plan."""
        made = chain.student if chain.rounds else chain.pretrained[0].trunk
        return [Entry(name, made.node["model"], None, chain.k, random_seed=self.seed)]


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
            for teacher in chain.pretrained
        ]


class Student(Contestant):
    """The network that was trained on the clusters; of an earlier round as ``student_<round>``.

    The paper trains it from scratch: what began with the teacher's weights is ``student_warm``.
    """

    def enter(self, name: str, plan: Plan, chain: Chain) -> list[Entry]:
        """Nothing to plan."""
        own = f"{name}_warm" if "start" in chain.student.inputs else name
        rounds = len(chain.rounds)
        entries = []
        for number, made in enumerate(chain.rounds, 1):
            made_by = {
                "pretrain": [teacher.trunk for teacher in chain.teachers],
                "extract": [teacher.extracted for teacher in made.teachers],
                "cluster": made.clusterings,
                "clusterfit": [made.student],
            }
            details = about(chain.teachers) | trained(made.student)
            if rounds > 1:
                details["round"] = f"{number} of {rounds}"
            row = own if number == rounds else f"{own}_{number}"
            entries.append(
                Entry(row, made.student.node["model"], made.student, made.k, None, made_by, details)
            )
        return entries
