"""Students like the student, but of other pseudo-labels made of the same features."""

from cf_lightning.chain import Chain, Config, cluster, plain
from cf_lightning.contestants.base import Contestant, Entry, about, of, trained
from cf_lightning.plan import Plan
from cf_lightning.student import fit


class Relabelled(Contestant):
    """The student's own training on what another stage makes of the teacher's features.

    Attributes:
        stage: what makes the pseudo-labels; where it has a ``k``, a list of them gives a head for each.
    """

    stage: Config

    def parts(self, cfg: Config) -> dict[str, Config]:
        """The stage, with one of several ``k``, one that is no number if there is such."""
        k = self.stage.get("k")
        one = {"k": next((k for k in k if type(k) is not int), k[0])} if isinstance(k, list) and k else {}
        return {"stage": {**self.stage, **one}}

    def enter(self, name: str, plan: Plan, chain: Chain) -> list[Entry]:
        """A relabelling and a training for each teacher."""
        entries = []
        for teacher in chain.teachers:
            own, inputs = of(name, teacher), {"data": chain.data, "features": teacher.features}
            if "k" in self.stage:
                labels = cluster(plan, self.stage, inputs, stage="relabel", title=own)
            else:
                labels = {"labels": plan.add("relabel", self.stage, own, **inputs)}
            trunk = fit(plan, chain.cfg, "train", f"student on {own}", chain.data, [teacher], labels)
            made_by = {
                "pretrain": [teacher.trunk],
                "extract": [teacher.extracted],
                "cluster": [*labels.values()],
                "clusterfit": [trunk],
            }
            k = plain([step.node["k"] for step in labels.values() if "k" in step.node])
            details = about([teacher]) | trained(trunk)
            entries.append(Entry(own, trunk.node["model"], trunk, k, made_by=made_by, details=details))
        return entries
