"""Every YAML file: it composes, its classes exist, its settings are valid, its key knows no place."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cf_lightning.chain import teacher_nodes
from cf_lightning.config import build, conf_dir
from cf_lightning.contestants.base import Contestant
from cf_lightning.credentials import refuse_in
from cf_lightning.data.source import Source
from cf_lightning.keys import artifact_key, canonical, class_version, digest
from cf_lightning.security import admit
from cf_lightning.stages.base import Stage
from cf_lightning.student import training
from cf_lightning.tracking.base import Tracker

Compose = Callable[..., dict[str, Any]]
CONF = conf_dir()
STAGES = ("pretrain", "extract", "cluster", "clusterfit", "target_features")


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def groups() -> list[str]:
    # composed below; part of pretrain and clusterfit; Hydra's own, in test_multirun.py
    skipped = {"experiment", "training", "hydra/sweeper"}
    folders = [f.relative_to(CONF) for f in CONF.rglob("*") if f.is_dir() and list(f.glob("*.yaml"))]
    return sorted(str(f) for f in folders if str(f) not in skipped)


EVERY_OPTION = [(group, option) for group in groups() for option in options(group)]
# what a person has to say before an option can be used
NEEDED = {
    ("model", "torchvision"): ["model.name=resnet18"],
    ("model", "torchvision_video"): ["model.name=r3d_18"],
    ("model", "timm"): ["model.name=vit_tiny_patch16_224"],
    ("teacher", "file"): ["teacher.path={file}"],
    ("data", "torchvision"): ["data.name=FashionMNIST"],
    ("target", "actions"): ["data=video_tags"],
    ("target", "surveillance_fights"): ["data=video_tags"],
    ("curate", "balanced"): ["curate.size=10"],
}


def complete(cfg: dict[str, Any]) -> None:
    """Add the models, and take out what is not the stage's, as the pipeline does."""
    cfg["clusterfit"] = training(cfg)
    cfg["extract"]["model"] = next(iter(teacher_nodes(cfg).values()))["model"]
    cfg["target_features"] |= {"data": cfg["data"], "model": cfg["model"]}
    for protocol in cfg["transfer"].values():
        if isinstance(protocol, dict) and "model" in protocol:
            protocol |= {"data": cfg["data"], "model": cfg["model"]}


@pytest.mark.parametrize("scale", ["demo", "paper"])
@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes_and_every_setting_is_valid(
    experiment: str, scale: str, compose: Compose
) -> None:
    cfg = compose(f"+experiment={experiment}", f"scale={scale}")
    admit(cfg)
    refuse_in(cfg)
    complete(cfg)
    for stage in STAGES:
        assert isinstance(build(cfg[stage], stage), Stage)
    report = {**cfg["cluster_report"], "cluster": cfg["cluster"]}
    assert isinstance(build(report, "cluster_report"), Stage)
    for name, node in [("data", cfg["data"]), *cfg["target"].items()]:
        assert isinstance(build(node, name), Source)
    for name, node in cfg["transfer"].items():
        if isinstance(node, dict):
            assert isinstance(build(node, name), Stage)
    for name, node in teacher_nodes(cfg).items():
        assert isinstance(build(node, f"teachers.{name}"), Stage)
    for name, node in cfg["contestant"].items():
        assert isinstance(build(node, name), Contestant)


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_opens_with_its_header(experiment: str) -> None:
    lines = (CONF / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    for line, word in zip(lines[1:], ("Question", "Command"), strict=False):
        assert line.startswith(f"# {word}:")
    header = "\n".join(line for line in lines if line.startswith("#"))
    assert f"python -m cf_lightning +experiment={experiment}" in header
    assert "# Hardware:" in header
    assert "# Expected:" in header
    assert "TODO" not in header


@pytest.mark.parametrize(("group", "option"), EVERY_OPTION)
def test_every_option_of_every_group_composes_and_builds(
    group: str, option: str, compose: Compose, tmp_path: Path
) -> None:
    (tmp_path / "weights.pth").write_bytes(b"")
    needed = [line.format(file=tmp_path / "weights.pth") for line in NEEDED.get((group, option), [])]
    listed = f"[{option}]" if group in ("target", "transfer", "contestant") else option
    cfg = compose("+experiment=demo", f"{group}={listed}", *needed)
    admit(cfg)
    refuse_in(cfg)
    complete(cfg)
    header = re.match(r"# @package (\S+)", (CONF / group / f"{option}.yaml").read_text())
    place = header.group(1) if header else group.replace("/", ".")
    node = OmegaConf.select(OmegaConf.create(cfg), "runtime.logger" if group == "logger" else place)
    if node and "_target_" in node:
        built = build(node, group)
        assert isinstance(built, Tracker) or group != "logger"


def test_only_known_nodes_hold_a_place(compose: Compose) -> None:
    cfg = compose("+experiment=demo", "data.root=/some/where", "runtime.store=/some/store")
    for stage in STAGES:
        text = json.dumps(canonical(cfg[stage]))
        assert "/some" not in text, stage
        assert "runtime" not in text


def test_k_is_no_part_of_the_features(compose: Compose) -> None:
    keys = []
    for k in (8, 16):
        cfg = compose("+experiment=demo", f"cluster.k={k}")
        keys.append(
            [artifact_key(cfg[stage], {}) for stage in ("pretrain", "extract", "cluster", "clusterfit")]
        )
    assert [one == two for one, two in zip(*keys, strict=True)] == [True, True, False, True]


def test_a_seed_reaches_its_stage_alone(compose: Compose) -> None:
    plain, other = compose("+experiment=demo"), compose("+experiment=demo", "clusterfit.seed=5")
    same = [artifact_key(plain[stage], {}) == artifact_key(other[stage], {}) for stage in STAGES]
    assert same == [True, True, True, False, True]
    everywhere = compose("+experiment=demo", "seed=5")
    seeds = [everywhere[stage]["seed"] for stage in ("pretrain", "cluster", "clusterfit", "transfer")]
    assert seeds == [5, 5, 5, 5]


def seen(node: dict[str, Any], name: str) -> str:
    """What enters the keys of all readers of a source beside its listing: its class and its view."""
    source = build(node, name)
    cache = source.cache and canonical(source.cache.model_dump())
    return digest([class_version(node["_target_"]), canonical(source.view.model_dump()), cache])


def test_keys_of_the_experiments_are_those_that_were_accepted(compose: Compose) -> None:
    """A refactoring that moves a key orphans everybody's artifacts: accept it by updating the file."""
    found = {}
    for experiment in options("experiment"):
        for scale in ("demo", "paper"):
            cfg = compose(f"+experiment={experiment}", f"scale={scale}")
            complete(cfg)
            nodes = {stage: cfg[stage] for stage in STAGES} | {"space": cfg["cluster"]["space"]}
            found[f"{experiment} {scale}"] = {stage: artifact_key(nodes[stage], {}) for stage in nodes}
            sources = {
                "data": cfg["data"],
                **{f"target.{name}": node for name, node in cfg["target"].items()},
            }
            found[f"{experiment} {scale}"] |= {name: seen(node, name) for name, node in sources.items()}
    accepted = Path(__file__).parent / "golden_keys.json"
    if not accepted.exists():
        accepted.write_text(json.dumps(found, indent=1) + "\n")
        pytest.fail(f"{accepted} was missing and has been written: look at it and commit it")
    assert found == json.loads(accepted.read_text()), f"remove {accepted} and run again to accept"
