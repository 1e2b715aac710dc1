"""The exported folder: weights by their library's names, what they need, and a card for people."""

import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cf_lightning.errors import DataError
from cf_lightning.export.load import Exported, trunk_of
from cf_lightning.results import Result
from cf_lightning.runs import Run, RunStep
from cf_lightning.store import verified

if TYPE_CHECKING:
    from torch import nn

    from cf_lightning.models.trunk import Trunk


def write(folder: Path, run: Run, step: RunStep, results: Sequence[Result], onnx: bool) -> Path:
    """``model.safetensors``, ``trunk.json``, ``README.md`` and, if asked for, ``model.onnx``.

    Args:
        folder: does not exist yet; it appears when it is whole.
        run: that made the network.
        step: whose artifact has the trunk.
        results: of the contestant.
        onnx: write that, too.

    Raises:
        DataError: the artifact is no longer in the store.
        StoreError: it is damaged.
    """
    from safetensors.torch import save_file

    artifact = run.path(step)
    if not artifact.exists():
        raise DataError(f"{artifact}: the network is no longer in the store; run the same command again")
    made = verified(artifact, ())
    trunk = trunk_of(artifact, made)
    described = Exported(
        model=made["config"]["model"],
        feature_dim=trunk.feature_dim,
        mean=tuple(trunk.mean.flatten().tolist()),
        std=tuple(trunk.std.flatten().tolist()),
        view=_view(made["config"]),
    )
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    weights = {name: tensor.contiguous() for name, tensor in trunk.network.state_dict().items()}
    save_file(weights, partial / Exported.WEIGHTS, metadata={"format": "pt"})
    (partial / Exported.FILE).write_text(described.model_dump_json(indent=1))
    if onnx:
        from cf_lightning.export.onnx import write_onnx

        write_onnx(trunk, described.view, partial / "model.onnx")
    (partial / "README.md").write_text(_card(run, step, results, described, trunk, made, onnx))
    os.replace(partial, folder)
    return folder


def _view(config: dict[str, Any]) -> dict[str, Any]:
    """What the network saw in its training; empty for weights that were given."""
    view = {**config.get("data", {}).get("view", {}), **(config.get("view") or {})}
    return {name: value for name, value in view.items() if name != "_target_"}


def _card(
    run: Run,
    step: RunStep,
    results: Sequence[Result],
    described: Exported,
    trunk: "Trunk",
    made: dict[str, Any],
    onnx: bool,
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    library, name = described.model["_target_"].split(".")[2], described.model.get("name", "")
    place = _classifier(name) if library.startswith("torchvision") else ""
    card: str = environment.get_template("card.md").render(
        described=described,
        name=name or library,
        library=library,
        classifier=place,
        in_timm=library == "timm" or _fits_timm(name, trunk.network),
        clips=trunk.axes == 4,
        weights=f"{sum(p.numel() for p in trunk.network.parameters()):,}",
        results=results,
        steps=_behind(run, step),
        facts=made.get("facts", {}),
        versions=made["versions"],
        commit=made.get("commit"),
        command=shlex.join(["python", "-m", "cf_lightning", *run.overrides]),
        onnx=onnx,
    )
    return card


def _behind(run: Run, step: RunStep) -> list[RunStep]:
    """The steps that the network comes of, itself the last, in the order in which they ran."""
    steps = run.by_key()
    needed = [step]
    for one in needed:  # grows while it is walked
        needed += [steps[key] for key in one.inputs.values() if key in steps and steps[key] not in needed]
    return [one for one in run.steps if one in needed]


def _classifier(name: str) -> str:
    """Where torchvision's network has the layer that the trunk has not."""
    import torch
    from torch import nn
    from torchvision import models

    from cf_lightning.models.torchvision import classifier_of

    with torch.device("meta"):
        network = models.get_model(name, weights=None)
    return classifier_of(network, nn.Conv3d if name == "s3d" else nn.Linear)


def _fits_timm(name: str, network: "nn.Module") -> bool:
    """Whether timm's network of that name has the same tensors, as its ResNets do."""
    import timm
    import torch

    if not timm.is_model(name):
        return False
    with torch.device("meta"):
        other = timm.create_model(name, num_classes=0)
    shapes = [{key: tensor.shape for key, tensor in one.state_dict().items()} for one in (other, network)]
    return shapes[0] == shapes[1]
