"""Settings of a training that have no meaning together, or not with this data."""

from typing import TYPE_CHECKING

from cf_lightning.data.index import Index
from cf_lightning.data.views import View
from cf_lightning.errors import ConfigError
from cf_lightning.tasks.clusters import Clusters

if TYPE_CHECKING:
    from cf_lightning.stages.train import Train


def check_combinations(stage: "Train") -> None:
    """Refuse settings that have no meaning together."""
    mix, task = stage.mix, stage.task
    if stage.noise and not task.OF_LABELS:
        raise ConfigError(f"noise={stage.noise}: this training has no labels that could be replaced")
    if mix.on and task.not_linear:
        raise ConfigError(
            f"mix.mixup={mix.mixup}, mix.cutmix={mix.cutmix} with {task.not_linear}: "
            "mixed images need a loss that is linear in its targets; set both to 0, or loss=cross_entropy"
        )
    if stage.recluster and stage.runtime.shard:
        raise ConfigError(
            "runtime.shard=true with recluster: processes that share a trunk compute in step, and for "
            "its own clusters each takes its part of the images alone; set runtime.shard=false"
        )
    if stage.recluster and not isinstance(task, Clusters):
        raise ConfigError(f"recluster: task={type(task).__name__} learns no clusters; leave it out")
    if stage.recluster and isinstance(task, Clusters) and task.power:
        raise ConfigError(
            f"recluster with task.power={task.power}: images would be drawn by the sizes of the "
            "first clusters; set task.power=0"
        )


def check_batch(stage: "Train", data: Index) -> None:
    """There is at least one whole batch, and it can be divided into equal passes on equal devices."""
    num_train, machine = len(data.rows("train")), stage.runtime
    if num_train < stage.batch_size:
        raise ConfigError(
            f"batch_size={stage.batch_size} is more than the {num_train} training samples of "
            f"root={data.origin}; at most {num_train}"
        )
    parts = (2 if stage.mix.on else 1) * stage.accumulate * (machine.known_processes() or 1)
    if stage.batch_size % parts:
        halves = ", in two halves each, which are mixed" if stage.mix.on else ""
        below = stage.batch_size // parts * parts
        nearest = f"{below} or {below + parts}" if below else str(parts)
        raise ConfigError(
            f"batch_size={stage.batch_size} is of all devices together and cannot be divided by {parts} "
            f"(accumulate={stage.accumulate}, runtime.devices={machine.devices} on "
            f"runtime.nodes={machine.nodes}{halves}); take {nearest}"
        )


def check_progressive(stage: "Train", data: Index, view: View) -> None:
    """Crops grow, and the network and the task take all of them; the network is tried without weights."""
    if stage.progressive is None:
        return
    said = f"progressive={stage.progressive.model_dump()}"
    if stage.data.GIVES != "images":
        raise ConfigError(
            f"{said}: it is made for images, and root={stage.data.root} gives clips; leave it out"
        )
    sides = sorted(set(stage.sides(view)))
    if sides == [view.crop]:
        raise ConfigError(
            f"{said}: every epoch of epochs={stage.epochs} has the full crop={view.crop}; take less for "
            "progressive.start or progressive.step, or more for progressive.until, or leave it out"
        )
    for side in sides:
        smaller = view.scaled(side)
        try:
            stage.task.check(data, smaller)
            stage.model.operations(smaller.shape)
        except Exception as error:  # each network has its own
            raise ConfigError(
                f"{said}: crops of {side} px are not for this training; raise progressive.start, or leave it "
                f"out: {str(error).splitlines()[0]}"
            ) from error
