"""The student's training as it is planned: what it is told of the clusters, and what it begins with."""

from cf_lightning.chain import Config, Steps, Teacher
from cf_lightning.config import build
from cf_lightning.errors import ConfigError
from cf_lightning.plan import Plan, Step
from cf_lightning.stages.relabel import Relabel


def fit(
    plan: Plan, cfg: Config, stage: str, title: str, data: Step, teachers: list[Teacher], labels: Steps
) -> Step:
    """Plan the training of a student.

    Args:
        plan: to add to.
        cfg: of the run.
        stage: its folder in the store.
        title: of the step.
        data: the index of D_cf.
        teachers: whose features were clustered.
        labels: the clusterings, by the names of the student's heads.

    Raises:
        ConfigError: options of ``clusterfit`` that do not go together, or not with these teachers and labels.
    """
    inputs = {**_relabelled(plan, cfg, labels), **start(cfg, teachers)}
    return plan.add(stage, training(cfg), title, data=data, **inputs)


def training(cfg: Config) -> Config:
    """The stage of ``clusterfit``: all but what decides which artifacts it is given."""
    return {name: value for name, value in cfg["clusterfit"].items() if name not in ("relabel", "warm_start")}


def start(cfg: Config, teachers: list[Teacher]) -> Steps:
    """The input of a student's training that it begins with: the teacher's weights, or from scratch none.

    Args:
        cfg: of the run; ``clusterfit.warm_start`` asks for them.
        teachers: of the student.

    Raises:
        ConfigError: there are several teachers, or the teacher's architecture is another.
    """
    if not cfg["clusterfit"]["warm_start"]:
        return {}
    if len(teachers) > 1:
        names = ", ".join(teacher.name for teacher in teachers)
        raise ConfigError(
            f"clusterfit.warm_start=true: there are several teachers, {names}; a student begins with the "
            "weights of one; set it to false"
        )
    own, given = cfg["clusterfit"]["model"], teachers[0].node["model"]
    if own != given:
        raise ConfigError(
            f"clusterfit.warm_start=true: the student is {_named(own)} and the teacher {_named(given)}; "
            "a network begins with weights of the same model alone; set `model` to the teacher's"
        )
    return {"start": teachers[0].trunk}


def _relabelled(plan: Plan, cfg: Config, labels: Steps) -> Steps:
    """What each head is told of its clusters: what ``clusterfit.relabel`` makes of them, if anything."""
    node = cfg["clusterfit"]["relabel"]
    stage = build(node, "clusterfit.relabel")
    if not isinstance(stage, Relabel):
        raise ConfigError(f"clusterfit.relabel._target_={node['_target_']}: not a Relabel")
    _check(cfg, stage, labels)
    if not stage.changes:
        return labels
    for step in labels.values():
        if type(k := step.node.get("k")) is int:  # any other is refused by the clustering
            stage.check_k(k)
    return {
        head: plan.add("relabel", node, f"{step.title}, relabelled", **step.inputs, labels=step)
        for head, step in labels.items()
    }


def _check(cfg: Config, stage: Relabel, labels: Steps) -> None:
    """Refuse settings of ``clusterfit`` that would be ignored."""
    temperature = cfg["clusterfit"]["task"].get("temperature")
    if temperature is not None and stage.nearest == 1:
        raise ConfigError(
            f"clusterfit.task.temperature={temperature}: it shares a target among several clusters, and an "
            "image has one; set clusterfit.relabel.nearest to 2 or more"
        )
    if not cfg["clusterfit"]["recluster"]:
        return
    if stage.changes:
        raise ConfigError(
            f"clusterfit.relabel with nearest={stage.nearest}, min_size={stage.min_size} and "
            "clusterfit.recluster: a student's own clusters are not relabelled; leave one of them out"
        )
    if len(labels) > 1:
        raise ConfigError(
            f"clusterfit.recluster: the student has {len(labels)} heads, {', '.join(labels)}, and its own "
            "clusters are one; leave it out, or have one teacher and one k"
        )
    k, (first,) = cfg["clusterfit"]["recluster"]["k"], (step.node.get("k") for step in labels.values())
    if k != first:
        raise ConfigError(
            f"clusterfit.recluster.k={k}: the first clusters are {first}; leave it at cluster.k"
        )


def _named(model: Config) -> str:
    """A network, for people."""
    settings = [f"{name}={value}" for name, value in model.items() if name != "_target_"]
    return " ".join([model["_target_"].rpartition(".")[2], *settings])
