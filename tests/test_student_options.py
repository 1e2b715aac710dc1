"""Every option of the student runs in a short chain and changes what is learned; nonsense is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cf_lightning.chain import Chain
from cf_lightning.config import conf_dir
from cf_lightning.console import Console
from cf_lightning.errors import UserError
from cf_lightning.pipeline import method
from cf_lightning.plan import Plan
from cf_lightning.store import Store

Compose = Callable[..., dict[str, Any]]
SMALL = (
    *(
        "+experiment=demo",
        "runtime.accelerator=cpu",
        "runtime.progress=false",
        "data=folder",
        "model.width=4",
    ),
    *("pretrain=supervised", "pretrain.epochs=1", "pretrain.batch_size=16", "cluster.k=6"),
    *("clusterfit.epochs=2", "clusterfit.batch_size=16", "clusterfit.precision=32-true"),
)
FILES = sorted((conf_dir() / "clusterfit").glob("*/*.yaml"))
GROUPS = [f"clusterfit/{file.parent.name}={file.stem}" for file in FILES]
DEFAULTS = ("clusterfit/loss=cross_entropy", "clusterfit/head=linear")
OPTIONS = [
    *([group] for group in GROUPS if group not in DEFAULTS),
    ["clusterfit.task.loss.label_smoothing=0.1"],
    ["clusterfit.mix.mixup=0.5"],
    ["clusterfit.mix.cutmix=1.0"],
    ["clusterfit.augmentation.rand_ops=2"],
    ["clusterfit.ema=0.5"],
    ["clusterfit.accumulate=2"],
    ["clusterfit.progressive={start: 0.5, until: 0.9, step: 8}"],
    ["clusterfit.warm_start=true"],
    ["training@clusterfit=adamw"],
    ["clusterfit.task.power=1.0"],
    ["clusterfit.relabel.min_size=10"],
    ["clusterfit.relabel.min_size=10", "clusterfit.relabel.small=drop"],
    ["clusterfit.relabel.nearest=3"],
    ["clusterfit.relabel.nearest=3", "clusterfit/loss=mlcd", "clusterfit/head=cosine"],
    ["clusterfit.relabel.nearest=3", "clusterfit.task.temperature=0.1"],
    ["clusterfit.task.head.rate=0.2"],
    ["rounds=2"],
    [
        "training@clusterfit=adamw",
        "clusterfit.model={_target_:cf_lightning.models.timm.TimmTrunk,name:test_vit}",
    ],
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of all tests here: they share teacher, features and clusters."""
    return tmp_path_factory.mktemp("options")


@pytest.fixture
def planned(
    place: Path, compose: Compose, image_folder: Callable[..., Path]
) -> Callable[..., tuple[Plan, Chain]]:
    root = image_folder()

    def make(*overrides: str) -> tuple[Plan, Chain]:
        cfg = compose(*SMALL, f"data.root={root}", *overrides)
        plan = Plan(Store(str(place / "store")))
        chain = method(plan, cfg)
        plan.steps = [step for step in plan.steps if step.stage != "cluster_report"]
        plan.check()
        return plan, chain

    return make


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_an_option_runs_and_teaches_something_else(options: list[str], planned: Callable[..., Any]) -> None:
    weights = []
    for overrides in ([], options):
        plan, chain = planned(*overrides)
        plan.run(Console())
        weights.append(load_file(plan.folder(chain.student) / "trunk.safetensors"))
    plain, other = weights
    assert all(value.isfinite().all() for value in other.values())
    assert plain.keys() != other.keys() or any(not torch.equal(plain[name], other[name]) for name in plain)


@pytest.mark.parametrize("option", DEFAULTS)
def test_a_default_is_the_papers_student(option: str, planned: Callable[..., Any]) -> None:
    assert planned(option)[1].student.key == planned()[1].student.key


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["clusterfit.relabel.nearest=7"],
            r"clusterfit\.relabel\.nearest=7: there are 6 clusters; choose up to",
        ),
        (["clusterfit.task.head.rate=0"], r"clusterfit.*task\.head\.rate=0.*greater than 0"),
        (["clusterfit.task.head.rate=1.5"], r"clusterfit.*task\.head\.rate=1\.5.*less than or equal to 1"),
        (["clusterfit.task.power=2"], r"clusterfit.*task\.power=2"),
        (["clusterfit.ema=1"], r"clusterfit.*ema=1"),
        (
            ["clusterfit.mix.mixup=0.2", "clusterfit/loss=mlcd"],
            r"clusterfit .*mix\.mixup=0\.2, mix\.cutmix=0\.0 with task\.loss=MLCD: .*set both to 0",
        ),
        (["clusterfit.mix.cutmix=1", "clusterfit/loss=mlc"], r"mix\.cutmix=1.* with task\.loss=MLC\b"),
        (
            ["clusterfit.mix.mixup=0.2", "clusterfit.batch_size=15"],
            r"batch_size=15 .*two halves.*take 14 or 16",
        ),
        (
            ["clusterfit.mix.mixup=0.2", "clusterfit.accumulate=3"],
            r"batch_size=16 .*divided by 6 .*accumulate=3, .*two halves.*take 12 or 18",
        ),
        (["clusterfit.accumulate=32"], r"batch_size=16 .*divided by 32 .*accumulate=32.*take 32"),
        (["clusterfit.accumulate=0"], r"clusterfit.*accumulate=0.*greater than or equal to 1"),
        (["clusterfit.progressive={start: 0, until: 0.8}"], r"progressive\.start=0.*greater than 0"),
        (["clusterfit.progressive={start: 0.9, until: 0.5}"], r"progressive=.*every epoch of epochs=2 has"),
        (
            [
                "clusterfit.progressive={start: 0.5, until: 0.9, step: 8}",
                "clusterfit.model={_target_:cf_lightning.models.torchvision.TorchvisionTrunk,name:vit_b_16}",
            ],
            r"progressive=.*'start': 0\.5.*: crops of 16 px .*: images of 16x16 px: .* takes 224x224",
        ),
        (
            ["clusterfit.relabel.nearest=2", "clusterfit.task.temperature=1", "clusterfit/loss=mlcd"],
            r"temperature=1.* the loss MLCD knows no shares",
        ),
        (["clusterfit.task.temperature=1"], r"temperature=1.*clusterfit\.relabel\.nearest"),
        (
            [
                "clusterfit/head=cosine",
                "clusterfit.task.head.near=0.7",
                "clusterfit.task.loss.label_smoothing=0.1",
            ],
            r"label_smoothing=0\.1 .*head\.near=0\.7",
        ),
        (["clusterfit/recluster=kmeans", "clusterfit.task.power=1"], r"recluster with task\.power=1"),
        (
            ["clusterfit/recluster=kmeans", "cluster.k=[4,6]"],
            r"clusterfit.recluster: the student has 2 heads, labels_k4, labels_k6",
        ),
        (["clusterfit/recluster=kmeans", "clusterfit.recluster.k=5"], r"recluster\.k=5: .* are 6; leave it"),
        (["clusterfit/recluster=kmeans", "clusterfit.recluster.every_n_epochs=0"], r"every_n_epochs=0"),
        (["rounds=-1"], r"rounds=-1: a whole number; 1 is the paper's method"),
        (["pretrain.warm_start=true"], r"pretrain.*warm_start"),
    ],
)
def test_what_has_no_meaning_is_refused_before_anything_runs(
    options: list[str], message: str, planned: Callable[..., Any]
) -> None:
    options = [f"+{one}" if one.startswith("pretrain.warm") else one for one in options]
    with pytest.raises(UserError, match=message) as error:
        planned(*options)
    assert len(str(error.value).splitlines()) == 1


def test_a_minimum_size_that_leaves_one_cluster_is_refused_with_what_would_do(
    planned: Callable[..., Any],
) -> None:
    plan, _ = planned("clusterfit.relabel.min_size=1000")
    with pytest.raises(
        UserError, match=r"clusterfit\.relabel\.min_size=1000.*: 0 of 6 clusters.*min_size up to"
    ):
        plan.run(Console())
