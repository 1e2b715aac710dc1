"""Every setting of a run by itself, before data is listed or anything else is looked at."""

from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cf_lightning.chain import Config, ks_of, teacher_nodes
from cf_lightning.clustering.clusterer import Clusterer
from cf_lightning.config import Component, build
from cf_lightning.contestants.base import Contestant
from cf_lightning.data.source import Source
from cf_lightning.errors import ConfigError
from cf_lightning.models.base import TrunkRecipe
from cf_lightning.runtime import Runtime
from cf_lightning.stages.base import Stage
from cf_lightning.student import training
from cf_lightning.tracking.base import Tracker

VALUES = ("scale", "seed", "rounds", "plan")
NODES = {
    *("data", "target", "model", "teacher", "teachers", "pretrain", "extract", "cluster", "cluster_report"),
    *("clusterfit", "contestant", "transfer", "target_features", "runtime", "security"),
}


def resolved(cfg: DictConfig) -> Config:
    """The configuration as plain values.

    Raises:
        ConfigError: a value is missing, or one that another refers to; the message has the full key.
    """
    try:
        node: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key, written = error.full_key or "", OmegaConf.to_container(cfg)
        for name in key.split("."):
            written = written.get(name) if isinstance(written, dict) else None
        said = str(error.msg or error).splitlines()[0]
        raise ConfigError(f"{key}={written}: {said}; set it, as in {key}=VALUE") from None
    return node  # type: ignore[no-any-return]


def check_settings(cfg: Config) -> None:
    """Build every component that the run will use, so that its types and ranges are checked.

    Raises:
        ConfigError: a setting that is not there, of another type, or out of range, with its full key.
    """
    _check_top(cfg)
    _built(cfg["runtime"], "runtime", Runtime)
    if cfg["runtime"]["logger"] is not None:
        _built(cfg["runtime"]["logger"], "runtime.logger", Tracker)
    _built(cfg["data"], "data", Source)
    for name, node in cfg["target"].items():
        _built(node, f"target.{name}", Source)
    model = cfg["model"]
    _built(model, "model", TrunkRecipe)
    several, one = cfg["teachers"], "teacher" if "_target_" in cfg["teacher"] else "pretrain"
    for name, node in teacher_nodes(cfg).items():
        _built(node, f"teachers.{name}" if several else one, Stage)
    if cfg["rounds"]:
        _check_method(cfg)
    _built({**cfg["target_features"], "data": cfg["data"], "model": model}, "target_features", Stage)
    for name, node in cfg["contestant"].items():
        _is_node(node, f"contestant.{name}")
        if node.get("_recursive_", False) is not False:
            said = "it is false: what stands below is planned, not built"
            raise ConfigError(f"contestant.{name}._recursive_={node['_recursive_']}: {said}")
        contestant = _built(node, f"contestant.{name}", Contestant)
        for part, settings in contestant.parts(cfg).items():
            _built(settings, f"contestant.{name}.{part}", Component)
    for name, node in cfg["transfer"].items():
        if name != "seed":
            _is_node(node, f"transfer.{name}")
            given = {"data": cfg["data"], "model": model} if "model" in node else {}
            for part in given:
                if node.get(part) is not None:
                    whose = {"data": "the target's", "model": "the contestant's"}[part]
                    raise ConfigError(f"transfer.{name}.{part}={node[part]}: it is {whose}; leave it at null")
            _built({**node, **given}, f"transfer.{name}", Stage)


def _check_top(cfg: Config) -> None:
    """The names that there are, the values among them, and nodes where nodes have to be."""
    known = {*VALUES, *NODES, "curate"}
    for name in cfg:
        if name not in known:
            raise ConfigError(f"{name}={cfg[name]}: no such setting; there are {', '.join(sorted(known))}")
    for name in sorted(NODES):
        _is_node(cfg.get(name), name)
    if cfg["scale"] not in ("demo", "paper"):
        raise ConfigError(f"scale={cfg['scale']}: it is demo or paper")
    if type(cfg["plan"]) is not bool:
        raise ConfigError(f"plan={cfg['plan']}: it is true or false")
    for name, value in (
        ("seed", cfg["seed"]),
        ("rounds", cfg["rounds"]),
        ("transfer.seed", cfg["transfer"].get("seed")),
    ):
        if type(value) is not int or not 0 <= value < 2**31:
            raise ConfigError(f"{name}={value}: it is a whole number from 0 to {2**31 - 1}")


def _check_method(cfg: Config) -> None:
    """What is only used where something is clustered."""
    _built({**cfg["extract"], "model": cfg["model"]}, "extract", Stage)
    _is_node(cfg["cluster"].get("space"), "cluster.space")
    for k in ks_of(cfg["cluster"]):
        _built({**cfg["cluster"], "k": k}, "cluster", Clusterer)
        _built({**cfg["cluster_report"], "cluster": {**cfg["cluster"], "k": k}}, "cluster_report", Stage)
    _built(cfg["clusterfit"].get("relabel"), "clusterfit.relabel", Stage)
    _built(training(cfg), "clusterfit", Stage)
    if type(warm := cfg["clusterfit"].get("warm_start")) is not bool:
        raise ConfigError(f"clusterfit.warm_start={warm}: it is true or false")
    if cfg["curate"] is not None:
        _built(cfg["curate"], "curate", Stage)


def _is_node(node: Any, key: str) -> None:
    if not isinstance(node, dict):
        raise ConfigError(f"{key}={node}: it is a group of settings, as the files of conf/ show it")


def _built(node: Any, key: str, kind: type[Component]) -> Any:
    _is_node(node, key)
    component = build(node, key)
    if not isinstance(component, kind):
        raise ConfigError(f"{key}._target_={node.get('_target_')}: not a {kind.__name__}")
    return component
