"""The method: ClusterFit (Yan et al., CVPR 2020) from pre-training to the table of transfer."""

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cf_lightning.console import Console
from cf_lightning.errors import ConfigError
from cf_lightning.plan import Plan, Step
from cf_lightning.results import Result, results_table, write_results
from cf_lightning.store import Store

Config = dict[str, Any]


def method(plan: Plan, cfg: Config) -> dict[str, Step]:
    """The chain of the method; every step is planned here and run later, in this order."""
    data = plan.index(cfg["data"], "data")
    teacher = teach(plan, cfg)
    features = plan.add("extract", cfg["extract"], "features of the teacher", data=data, trunk=teacher)
    labels = plan.add("cluster", cfg["cluster"], "clusters of the features", data=data, features=features)
    student = plan.add("clusterfit", cfg["clusterfit"], "student on clusters", data=data, labels=labels)
    return {"pretrain": teacher, "extract": features, "cluster": labels, "clusterfit": student}


def teach(plan: Plan, cfg: Config) -> Step:
    """The teacher: trained on D_pre, or whatever stage the ``teacher`` group names."""
    if "_target_" in cfg["teacher"]:
        return plan.add("pretrain", cfg["teacher"], "teacher that was given")
    data = plan.index(cfg["pretrain"]["data"], "pretrain.data")
    return plan.add("pretrain", cfg["pretrain"], "teacher", data=data)


def transfer(plan: Plan, cfg: Config, chain: dict[str, Step]) -> list[tuple[Config, Step]]:
    """Every contestant on every target by every protocol, each with its row of the table, still blank."""
    contestants = {
        "random": (cfg["model"], None),
        "teacher": (cfg["teacher"]["model"], chain["pretrain"]),
        "student": (cfg["model"], chain["clusterfit"]),
    }
    for name in cfg["contestant"]:
        if name not in contestants:
            raise ConfigError(f"contestant={name}: there are {', '.join(contestants)}")
    protocols = {name: node for name, node in cfg["transfer"].items() if isinstance(node, dict)}
    planned = []
    for target, source in cfg["target"].items():
        data = plan.index(source, f"target.{target}")
        for contestant in cfg["contestant"]:
            model, trunk = contestants[contestant]
            node = {**cfg["target_features"], "data": source, "model": model}
            if trunk is None:
                node["random_seed"] = cfg["transfer"]["seed"]
            given = {"trunk": trunk} if trunk else {}
            title = f"{contestant} on {target}"
            features = plan.add("target_features", node, title, data=data, **given)
            for protocol, settings in protocols.items():
                step = plan.add("transfer", settings, f"{title}: {protocol}", data=data, features=features)
                planned.append((_blank(cfg, chain, contestant, target, step), step))
    return planned


def run(cfg: DictConfig) -> float:
    """Plan, check, run and report; returns the student's mean top-1 over targets and protocols."""
    if cfg.scale not in ("demo", "paper"):
        raise ConfigError(f"scale={cfg.scale}: it is demo or paper")
    node: Config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    console = Console()
    plan = Plan(Store(node["runtime"]["store"]))
    chain = method(plan, node)
    planned = transfer(plan, node, chain)
    plan.check()
    if node["scale"] == "demo":
        console.note(
            "scale=demo: sizes that a laptop finishes in minutes"
            + (", on the embedded images" if node["data"]["root"] == "embedded" else "")
            + "; your images: data.root=FOLDER, the paper's recipe: scale=paper data=tags data.root=FOLDER"
        )
    if node["plan"]:
        console.plan(plan)
        return 0.0
    plan.run(console)
    results = [result for blank, step in planned for result in _scored(plan, blank, step)]
    write_results(Path(node["runtime"]["run_dir"]), results)
    console.table(results_table(results))
    console.note(f"results in {node['runtime']['run_dir']}")
    top1 = [r.value for r in results if r.contestant == "student" and r.metric == "top1"]
    return sum(top1) / len(top1) if top1 else 0.0


def _blank(cfg: Config, chain: dict[str, Step], contestant: str, target: str, step: Step) -> Config:
    """A row of the table as far as it is known before anything has run."""
    made_by = {"random": [], "teacher": ["pretrain"], "student": list(chain)}[contestant]
    keys = {f"{stage}_key": known.key if stage in made_by else None for stage, known in chain.items()}
    return {
        "experiment": cfg["runtime"]["experiment"],
        "contestant": contestant,
        "target": target,
        "k": cfg["cluster"]["k"],
        "seed": cfg["seed"],
        **keys,
        "transfer_key": step.key,
    }


def _scored(plan: Plan, blank: Config, step: Step) -> list[Result]:
    """The rows that a finished transfer artifact fills."""
    scores = json.loads((plan.folder(step) / "metrics.json").read_text())
    return [Result(**blank, seconds=step.seconds, **score) for score in scores]
