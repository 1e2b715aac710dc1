"""A student of the teacher's predictions: knowledge distillation in place of clusters."""

from cf_lightning.chain import Chain, Config
from cf_lightning.config import build
from cf_lightning.contestants.base import Contestant, Entry, of, trained
from cf_lightning.errors import DataError
from cf_lightning.plan import Plan, Step
from cf_lightning.student import start, training
from cf_lightning.tasks.base import Task


class Distilled(Contestant):
    """The student's own training, on what the teacher predicts of its own labels.

    Attributes:
        task: of that training; its ``model`` and ``labels`` are the teacher's.
    """

    task: Config

    def parts(self, cfg: Config) -> dict[str, Config]:
        """The task; whose labels there will be does not matter here."""
        return {"task": {**self.task, "model": cfg["model"], "labels": cfg["pretrain"].get("task")}}

    def enter(self, name: str, plan: Plan, chain: Chain) -> list[Entry]:
        """One more training for each teacher."""
        entries = []
        for teacher in chain.teachers:
            labels = build(teacher.node["task"], "pretrain.task") if "task" in teacher.node else None
            if not isinstance(labels, Task) or not labels.OF_LABELS or teacher.data is None:
                raise self._refused(name, teacher, "a teacher that is trained here on labels or tags")
            task = {**self.task, "model": teacher.node["model"], "labels": teacher.node["task"]}
            node = {**training(chain.cfg), "task": task, "recluster": None}  # it is told no clusters
            if self.task.get("hard_weight"):
                _check_labels(name, labels, teacher.data, chain.data)
            inputs = {"data": chain.data, "teacher": teacher.trunk, **start(chain.cfg, [teacher])}
            trunk = plan.add("train", node, of(name, teacher), **inputs)
            made_by, details = {"pretrain": [teacher.trunk], "clusterfit": [trunk]}, trained(trunk)
            entries.append(
                Entry(of(name, teacher), node["model"], trunk, chain.k, made_by=made_by, details=details)
            )
        return entries


def _check_labels(name: str, task: Task, learned: Step, asked: Step) -> None:
    """Every label of D_cf must be one that the teacher has learned on D_pre."""
    assert learned.index is not None
    assert asked.index is not None
    root = asked.index.origin
    known = set(task.targets(learned.index).names)
    unknown = [label for label in task.targets(asked.index).names if label not in known]
    if unknown:
        raise DataError(
            f"contestant={name}: root={root} has {len(unknown)} labels that the teacher has not "
            f"learned, such as {unknown[0]}; contestant.{name}.task.hard_weight=0 needs none"
        )
