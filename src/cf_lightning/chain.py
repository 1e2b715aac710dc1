"""The parts of the method as they are planned: teachers, their clusters, and the student."""

from dataclasses import dataclass
from typing import Any

from cf_lightning.errors import ConfigError
from cf_lightning.plan import Plan, Step

Config = dict[str, Any]
Steps = dict[str, Step]  # by the names that a stage knows its inputs by


@dataclass(frozen=True)
class Pretrained:
    """A network that the method begins with.

    Attributes:
        name: among several; empty where there is one.
        trunk: the step that makes it.
    """

    name: str
    trunk: Step

    @property
    def node(self) -> Config:
        """Configuration of the stage that makes it."""
        return self.trunk.node

    @property
    def data(self) -> Step | None:
        """The index of what it is trained on; ``None`` for weights that were given."""
        return self.trunk.inputs.get("data")


@dataclass(frozen=True)
class Teacher(Pretrained):
    """A teacher and what comes of it.

    Attributes:
        extracted: its features of D_cf.
        features: the same in the clustered space.
        labels: the clusterings of them, by the names of the student's heads.
    """

    extracted: Step
    features: Step
    labels: Steps


@dataclass(frozen=True)
class Round:
    """From teachers to a student, which is the teacher of the next round.

    Attributes:
        teachers: one or several.
        student: the step that makes it.
    """

    teachers: list[Teacher]
    student: Step

    @property
    def clusterings(self) -> list[Step]:
        """What the student is trained on."""
        return [step for teacher in self.teachers for step in teacher.labels.values()]

    @property
    def k(self) -> Any:
        """A number, or one for each of the student's heads."""
        return plain([step.node["k"] for step in self.clusterings])


@dataclass(frozen=True)
class Chain:
    """All that the method has planned.

    Attributes:
        cfg: of the run.
        pretrained: what the first round's teachers are.
        rounds: one in the paper; none where networks are only measured.
    """

    cfg: Config
    pretrained: list[Pretrained]
    rounds: list[Round]

    @property
    def data(self) -> Step:
        """The index of D_cf."""
        return self.student.inputs["data"]

    @property
    def teachers(self) -> list[Teacher]:
        """Those of the first round, which are pre-trained."""
        return self._made()[0].teachers

    @property
    def clusterings(self) -> list[Step]:
        """Of the first round."""
        return self._made()[0].clusterings

    @property
    def k(self) -> Any:
        """Of the first round; ``None`` where there is none."""
        return self.rounds[0].k if self.rounds else None

    @property
    def student(self) -> Step:
        """That of the last round."""
        return self._made()[-1].student

    def _made(self) -> list[Round]:
        if not self.rounds:
            raise ConfigError("rounds=0: nothing is clustered and there is no student; set rounds=1")
        return self.rounds


def students(cfg: Config) -> list[str]:
    """The titles of the students, one for each round."""
    rounds = cfg["rounds"]
    if type(rounds) is not int or rounds < 0:
        raise ConfigError(f"rounds={rounds}: a whole number; 1 is the paper's method, 0 makes no student")
    several = [f"student of round {number}" for number in range(1, rounds + 1)]
    return several if rounds != 1 else ["student on clusters"]


def teacher_nodes(cfg: Config) -> dict[str, Config]:
    """The teachers' stages by name: ``teachers``, or, where that is empty, what ``teacher`` says."""
    one = cfg["teacher"] if "_target_" in cfg["teacher"] else cfg["pretrain"]
    nodes = cfg["teachers"] or {"": one}
    for name in cfg["teachers"]:
        if not name.isidentifier():
            raise ConfigError(f"teachers.{name}: a name has letters, digits and underscores")
    return nodes


def teach(plan: Plan, name: str, node: Config) -> Step:
    """Plan a teacher, and before it what its task needs, such as the permutations of Jigsaw."""
    title = f"teacher {name}".strip()
    needs = {
        need: plan.add(need, stage, f"{need} for {title}") for need, stage in node.get("needs", {}).items()
    }
    if "data" not in node:
        return plan.add("pretrain", node, f"{title} that was given")
    data = plan.index(node["data"], f"teachers.{name}.data" if name else "pretrain.data")
    return plan.add("pretrain", node, title, data=data, **needs)


def cluster(
    plan: Plan, node: Config, inputs: Steps, stage: str = "cluster", of: str = "", title: str = "clusters"
) -> Steps:
    """One clustering for each k, by the names that the student knows them by.

    Each is the artifact that its k has alone. A student of one clustering knows it as ``labels``; a student
    of several has a head for each ``labels_<teacher>_k<k>`` (what there is one of is left out), k ascending:
    the order in which a person lists them is no part of its key and must change nothing.

    Args:
        plan: to add to.
        node: configuration of the stage.
        inputs: of the stage.
        stage: its folder in the store.
        of: the teacher's name among several.
        title: of each, before its k.
    """
    ks = ks_of(node)
    labels = {}
    for k in ks:
        head = "_".join(filter(None, ("labels", of, f"k{k}" if len(ks) > 1 else "")))
        labels[head] = plan.add(stage, {**node, "k": k}, f"{title}, k={k}", **inputs)
    return labels


def plain(values: list[Any]) -> Any:
    """What a list holds if that is a single thing, nothing as null, else the list."""
    return None if not values else values[0] if len(values) == 1 else values


def ks_of(node: Config) -> list[Any]:
    """``k`` of a clustering as a list, ascending; a number is checked by the stage that it belongs to."""
    k = node.get("k")
    if not isinstance(k, list):
        return [k]
    if not k or any(type(one) is not int for one in k) or len(set(k)) < len(k):
        raise ConfigError(f"cluster.k={k}: a list has whole numbers, each of them once, as in [16,64]")
    return sorted(k)
