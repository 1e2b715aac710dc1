"""The method: ClusterFit (Yan et al., CVPR 2020) from pre-training to the table of transfer."""

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cf_lightning.config import build
from cf_lightning.console import Console
from cf_lightning.errors import ConfigError
from cf_lightning.plan import Plan, Step
from cf_lightning.report.run_page import reported
from cf_lightning.results import Result, objective, results_table, write_results
from cf_lightning.runs import recorded
from cf_lightning.store import Store

Config = dict[str, Any]


def method(plan: Plan, cfg: Config) -> dict[str, list[Step]]:
    """The chain of the method; every step is planned here and run later, in this order."""
    data = plan.index(cfg["data"], "data")
    teacher = teach(plan, cfg)
    features = plan.add("extract", cfg["extract"], "features of the teacher", data=data, trunk=teacher)
    space = plan.add("space", cfg["cluster"]["space"], "features to cluster", data=data, features=features)
    labels = cluster(plan, cfg["cluster"], data=data, features=space)
    for one in labels.values():
        report = {**cfg["cluster_report"], "cluster": one.node}
        plan.add("cluster_report", report, f"report on {one.title}", data=data, features=space, labels=one)
    student = plan.add("clusterfit", cfg["clusterfit"], "student on clusters", data=data, **labels)
    chain = {"pretrain": [teacher], "extract": [features], "cluster": [*labels.values()]}
    return {**chain, "clusterfit": [student]}


def teach(plan: Plan, cfg: Config) -> Step:
    """The teacher: trained on D_pre, or whatever stage the ``teacher`` group names."""
    if "_target_" in cfg["teacher"]:
        return plan.add("pretrain", cfg["teacher"], "teacher that was given")
    data = plan.index(cfg["pretrain"]["data"], "pretrain.data")
    return plan.add("pretrain", cfg["pretrain"], "teacher", data=data)


def cluster(plan: Plan, node: Config, **inputs: Step) -> dict[str, Step]:
    """One clustering for each k, by the names that the student knows them by.

    Each is the artifact that its k has alone. A student of one k, in a list or not, knows it as
    ``labels``; a student of several has a head for each ``labels_k<k>``, in ascending order: the order
    in which a person lists them is no part of its key and must change nothing.
    """
    ks = _ascending(node["k"])
    name = "labels_k{}" if len(ks) > 1 else "labels"
    return {name.format(k): plan.add("cluster", {**node, "k": k}, f"clusters, k={k}", **inputs) for k in ks}


def transfer(plan: Plan, cfg: Config, chain: dict[str, list[Step]]) -> list[tuple[Config, Step]]:
    """Every contestant on every target by every protocol, each with its row of the table, still blank."""
    (teacher,), (student,) = chain["pretrain"], chain["clusterfit"]
    contestants = {
        "random": (cfg["model"], None),
        "teacher": (cfg["teacher"]["model"], teacher),
        "student": (cfg["model"], student),
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
    """Plan, check, run and report; returns what a sweeper maximises (``results.objective``)."""
    if cfg.scale not in ("demo", "paper"):
        raise ConfigError(f"scale={cfg.scale}: it is demo or paper")
    node: Config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    console = Console()
    plan = Plan(Store(node["runtime"]["store"]))
    if node["plan"]:
        transfer(plan, node, method(plan, node))
        plan.check()
        console.note(_scale(node))
        console.plan(plan)
        return 0.0
    folder, logger = Path(node["runtime"]["run_dir"]), node["runtime"]["logger"]
    tracker = build(logger, "runtime.logger") if logger else None
    with reported(folder, tracker), recorded(plan, node["runtime"]) as record:
        planned = transfer(plan, node, method(plan, node))
        plan.check()
        if tracker:
            tracker.check(folder)
        console.note(_scale(node))
        plan.run(console)
        results = [result for blank, step in planned for result in _scored(plan, blank, step)]
        write_results(folder, results)
        record.objective = objective(results)
    console.table(results_table(results))
    console.summary(plan, record.seconds)
    console.note(f"results in {folder}")
    console.note(f"to look at: {folder / 'report.html'}")
    return record.objective


def _ascending(k: Any) -> list[Any]:
    """``cluster.k`` as a list; a number is checked by the stage that it is a setting of."""
    if not isinstance(k, list):
        return [k]
    if not k or any(type(one) is not int for one in k) or len(set(k)) < len(k):
        raise ConfigError(f"cluster.k={k}: a list has whole numbers, each of them once, as in [16,64]")
    return sorted(k)


def _scale(cfg: Config) -> str:
    """A line that says how large this run is, and how to have it larger."""
    if cfg["scale"] == "paper":
        return "scale=paper: the published sizes"
    images = ", on the embedded images" if cfg["data"]["root"] == "embedded" else ""
    return (
        f"scale=demo: sizes that a laptop finishes in minutes{images}; your images: data.root=FOLDER, "
        "the paper's recipe: scale=paper data=tags data.root=FOLDER"
    )


def _blank(cfg: Config, chain: dict[str, list[Step]], contestant: str, target: str, step: Step) -> Config:
    """A row of the table as far as it is known before anything has run."""
    made_by = {"random": [], "teacher": ["pretrain"], "student": list(chain)}[contestant]
    keys = {
        f"{stage}_key": _plain([known.key for known in steps]) if stage in made_by else None
        for stage, steps in chain.items()
    }
    return {
        "experiment": cfg["runtime"]["experiment"],
        "contestant": contestant,
        "target": target,
        "k": _plain([known.node["k"] for known in chain["cluster"]]),
        "seed": cfg["seed"],
        **keys,
        "transfer_key": step.key,
    }


def _plain(values: list[Any]) -> Any:
    """What a list holds if that is a single thing, else the list."""
    return values[0] if len(values) == 1 else values


def _scored(plan: Plan, blank: Config, step: Step) -> list[Result]:
    """The rows that a finished transfer artifact fills."""
    scores = json.loads((plan.folder(step) / "metrics.json").read_text())
    return [Result(**blank, seconds=step.seconds, **score) for score in scores]
