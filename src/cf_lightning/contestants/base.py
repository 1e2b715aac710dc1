"""What a contestant is: something that enters the table with a trunk."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cf_lightning.chain import Chain, Config, Pretrained, plain
from cf_lightning.config import Component
from cf_lightning.errors import ConfigError
from cf_lightning.plan import Plan, Step


@dataclass(frozen=True)
class Entry:
    """A contestant as it is measured on every target.

    Attributes:
        name: in the table.
        model: configuration of its architecture.
        trunk: the step that makes its weights; ``None`` for random ones.
        k: clusters that it was trained on, and that of the run where it knows none.
        random_seed: of random weights.
        made_by: the steps behind it, by the stage of the method that each stands for.
        details: what a reader of the table has to know of it.
    """

    name: str
    model: Config
    trunk: Step | None
    k: Any
    random_seed: int | None = None
    made_by: dict[str, list[Step]] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    def keys(self) -> dict[str, Any]:
        """The columns ``<stage>_key`` of the table."""
        stages = ("pretrain", "extract", "cluster", "clusterfit")
        return {f"{stage}_key": plain([step.key for step in self.made_by.get(stage, [])]) for stage in stages}


class Contestant(Component, ABC):
    """A ``contestant`` node; ``_recursive_: false`` leaves the stages below it as configuration."""

    @abstractmethod
    def enter(self, name: str, plan: Plan, chain: Chain) -> list[Entry]:
        """Plan what it needs beyond the method itself.

        Args:
            name: the node's own.
            plan: to add to.
            chain: what the method has planned.

        Returns:
            Usually one; where there are several teachers and each has its own, as many.

        Raises:
            ConfigError: it cannot be made from this chain.
        """

    def parts(self, cfg: Config) -> dict[str, Config]:
        """What it holds as configuration, by the setting's name, so completed that it can be built.

        Args:
            cfg: of the run.
        """
        return {}

    def _refused(self, name: str, teacher: Pretrained, needed: str) -> ConfigError:
        kind = teacher.node.get("task", teacher.node)["_target_"].rpartition(".")[2]
        return ConfigError(f"contestant={name}: needs {needed}, and the teacher is {kind}; leave {name} out")


def of(name: str, teacher: Pretrained) -> str:
    """A contestant's name where each of several teachers has one."""
    return f"{name}_{teacher.name}" if teacher.name else name


def about(teachers: Sequence[Pretrained]) -> dict[str, str]:
    """What the table says of teachers whose weights are random ones."""
    random = [of("teacher", teacher) for teacher in teachers if teacher.node.get("pretrained") is False]
    return {"not pre-trained": " ".join(random)} if random else {}


def trained(student: Step) -> dict[str, str]:
    """What the table says of a student's training where it is not the paper's."""
    said = {"start": "the teacher's weights"} if "start" in student.inputs else {}
    relabelled = [s for s in student.inputs.values() if s.stage == "relabel" and "labels" in s.inputs]
    if relabelled:
        settings = relabelled[0].built().model_dump(exclude_defaults=True, exclude={"runtime"})
        said["relabel"] = " ".join(f"{name}={value}" for name, value in settings.items())
    return said
