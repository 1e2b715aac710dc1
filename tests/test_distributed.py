"""Two and three gloo processes against one, through torchrun as in a real run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from cf_lightning.chain import teach
from cf_lightning.console import Console
from cf_lightning.errors import ConfigError
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.pipeline import method
from cf_lightning.plan import Plan, Step
from cf_lightning.store import Store
from cf_lightning.student import training

Compose = Callable[..., dict[str, Any]]
CPU = ("+experiment=demo", "runtime.accelerator=cpu", "runtime.progress=false", "model.width=4")


@pytest.fixture
def folder_of_images(image_folder: Callable[..., Path]) -> str:
    return str(image_folder(per_class=17))


def run(plan: Plan) -> None:
    plan.check()
    plan.run(Console())


def chain(cfg: dict[str, Any], store: Path) -> tuple[Plan, Step, Step]:
    """The method up to the clusters."""
    plan = Plan(Store(str(store)))
    planned = method(plan, cfg)
    plan.steps = [step for step in plan.steps if step.stage not in ("cluster_report", "clusterfit")]
    (teacher,), (labels,) = planned.teachers, planned.clusterings
    return plan, teacher.extracted, labels


@pytest.mark.slow
def test_features_are_byte_identical_and_labels_the_same_for_any_number_of_processes(
    compose: Compose, folder_of_images: str, tmp_path: Path
) -> None:
    save_file(TinyTrunk(width=4).build().network.state_dict(), tmp_path / "weights.safetensors")
    found = []
    for devices in (1, 2, 3):
        artifacts: list[Any] = []
        for engine in ("faiss", "lloyd"):
            cfg = compose(
                *CPU,
                "data=folder",
                f"data.root={folder_of_images}",
                "teacher=file",
                "model@teacher.model=tiny",
                "teacher.model.width=4",
                f"teacher.path={tmp_path / 'weights.safetensors'}",
                "extract.batch_size=8",
                "cluster.k=5",
                f"cluster/engine={engine}",
                f"runtime.devices={devices}",
            )
            plan, features, labels = chain(cfg, tmp_path / f"store{devices}")
            run(plan)
            artifacts += [features.key, (plan.folder(features) / "features.npy").read_bytes(), labels.key]
            files = ("labels", "centroids") if engine == "lloyd" else ("labels",)
            artifacts += [(plan.folder(labels) / f"{name}.npy").read_bytes() for name in files]
        found.append(artifacts)
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
@pytest.mark.parametrize("pretext", ["supervised", "jigsaw"])
def test_training_on_two_processes_agrees_with_one(
    pretext: str, compose: Compose, folder_of_images: str, tmp_path: Path
) -> None:
    weights, keys = [], []
    for devices in (1, 2):
        cfg = compose(
            *CPU,
            "data=folder",
            f"data.root={folder_of_images}",
            f"runtime.devices={devices}",
            f"pretrain={pretext}",
            *(["pretrain.view.resize=36", "pretrain.view.crop=32"] if pretext == "jigsaw" else []),
            "pretrain.epochs=2",
            "pretrain.batch_size=16",
            "pretrain.precision=32-true",
        )
        plan = Plan(Store(str(tmp_path / f"store{devices}")))
        teacher = teach(plan, "", cfg["pretrain"])
        run(plan)
        weights.append(load_file(plan.folder(teacher) / "trunk.safetensors"))
        keys.append(teacher.key)
    assert keys[0] == keys[1]
    for name, one in weights[0].items():
        np.testing.assert_allclose(one, weights[1][name], rtol=2e-3, atol=2e-4, err_msg=name)


def test_a_batch_that_the_devices_cannot_share_is_refused_before_anything_runs(
    compose: Compose, folder_of_images: str
) -> None:
    cfg = compose(*CPU, "data=folder", f"data.root={folder_of_images}", "runtime.devices=3", "cluster.k=4")
    plan = Plan(Store(cfg["runtime"]["store"]))
    data = plan.index(cfg["data"], "data")
    labels = plan.add("cluster", cfg["cluster"], "stands for any input", data=data, features=data)
    plan.add("clusterfit", training(cfg) | {"batch_size": 16}, "student", data=data, labels=labels)
    with pytest.raises(ConfigError, match=r"clusterfit .*batch_size=16 .*runtime.devices=3.*; take 15 or 18"):
        plan.check()
