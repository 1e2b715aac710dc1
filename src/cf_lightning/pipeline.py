"""The method: ClusterFit (Yan et al., CVPR 2020) from pre-training to the table of transfer."""

import json
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from cf_lightning.chain import (
    Chain,
    Config,
    Pretrained,
    Round,
    Teacher,
    cluster,
    students,
    teach,
    teacher_nodes,
)
from cf_lightning.comparison import against_teacher
from cf_lightning.config import build
from cf_lightning.console import Console
from cf_lightning.contestants.base import Contestant, Entry
from cf_lightning.credentials import refuse_in
from cf_lightning.errors import ConfigError
from cf_lightning.plan import Plan, Step
from cf_lightning.report.run_page import reported
from cf_lightning.results import Result, objective, write_results
from cf_lightning.results_table import results_table
from cf_lightning.rows import open_rows
from cf_lightning.runs import recorded
from cf_lightning.security import admit
from cf_lightning.settings import check_settings, resolved
from cf_lightning.stages.curate import usage
from cf_lightning.store import Store
from cf_lightning.store.uses import using
from cf_lightning.student import fit


def method(plan: Plan, cfg: Config) -> Chain:
    """The chain of the method; every step is planned here and run later, in this order."""
    titles = students(cfg)
    if titles:
        data = plan.index(cfg["data"], "data")
    trunks = {name: teach(plan, name, node) for name, node in teacher_nodes(cfg).items()}
    pretrained = [Pretrained(name, trunk) for name, trunk in trunks.items()]
    rounds: list[Round] = []
    for title in titles:
        teachers = [look(plan, cfg, data, name, trunk) for name, trunk in trunks.items()]
        labels = {head: step for teacher in teachers for head, step in teacher.labels.items()}
        student = fit(plan, cfg, "clusterfit", title, data, teachers, labels)
        rounds.append(Round(teachers, student))
        trunks = {"": student}  # the teacher of the next round
    return Chain(cfg, pretrained, rounds)


def look(plan: Plan, cfg: Config, data: Step, name: str, trunk: Step) -> Teacher:
    """What a teacher sees in D_cf: its features, and the clusters of them, each with a report."""
    whose = f"of the {trunk.title}"
    extract = {**cfg["extract"], "model": trunk.node["model"]}
    extracted = plan.add("extract", extract, f"features {whose}", data=data, trunk=trunk)
    space = cfg["cluster"]["space"]
    features = plan.add("space", space, f"features {whose} to cluster", data=data, features=extracted)
    inputs = {"data": data, "features": features}
    labels = cluster(plan, cfg["cluster"], inputs, of=name, title=f"clusters {whose}")
    for one in labels.values():
        report = {**cfg["cluster_report"], "cluster": one.node}
        plan.add("cluster_report", report, f"report on {one.title}", **inputs, labels=one)
        if cfg["curate"]:
            plan.add("curate", cfg["curate"], f"balanced by {one.title}", data=data, labels=one)
    return Teacher(name, trunk, extracted, features, labels)


def transfer(plan: Plan, cfg: Config, chain: Chain) -> list[tuple[Config, Step]]:
    """Every contestant on every target by every protocol, each with its row of the table, still blank."""
    entries = [entry for name, node in cfg["contestant"].items() for entry in enter(name, node, plan, chain)]
    protocols = {name: node for name, node in cfg["transfer"].items() if isinstance(node, dict)}
    planned = []
    for target, source in cfg["target"].items():
        data = plan.index(source, f"target.{target}")
        for entry in entries:
            node = {**cfg["target_features"], "data": source, "model": entry.model}
            if entry.trunk is None:
                node["random_seed"] = entry.random_seed
            given = {"trunk": entry.trunk} if entry.trunk else {}
            title = f"{entry.name} on {target}"
            for protocol, settings in protocols.items():
                if "model" in settings:  # it trains the network
                    settings = {**settings, "data": source, "model": entry.model}
                    inputs = given
                else:
                    inputs = {"features": plan.add("target_features", node, title, data=data, **given)}
                step = plan.add("transfer", settings, f"{title}: {protocol}", data=data, **inputs)
                planned.append((_blank(cfg, entry, target, step), step))
    return planned


def enter(name: str, node: Config, plan: Plan, chain: Chain) -> list[Entry]:
    """Plan one contestant."""
    contestant = build(node, f"contestant.{name}")
    if not isinstance(contestant, Contestant):
        raise ConfigError(f"contestant.{name}._target_={node['_target_']}: not a contestant")
    return contestant.enter(name, plan, chain)


def run(cfg: DictConfig) -> float:
    """Plan, check, run and report; returns what a sweeper maximises (``results.objective``)."""
    node = resolved(cfg)
    admit(node)
    refuse_in(node)
    check_settings(node)
    console = Console()
    plan = Plan(Store(node["runtime"]["store"]), node["runtime"])
    if node["plan"]:
        transfer(plan, node, method(plan, node))
        plan.check()
        console.note(_scale(node))
        console.plan(plan)
        return 0.0
    folder, logger = Path(node["runtime"]["run_dir"]), node["runtime"]["logger"]
    tracker = build(logger, "runtime.logger") if logger else None
    used = using(plan.store.root, folder)
    with reported(folder, tracker), used as claim, recorded(plan, node["runtime"]) as record:
        planned = transfer(plan, node, method(plan, node))
        plan.check()
        if tracker:
            tracker.check(folder)
        claim()  # where plan.check() has only now made the store
        record.needs(plan, folder)
        console.note(_scale(node))
        plan.run(console)
        results = against_teacher(*_scored(plan, planned))
        write_results(folder, results)
        record.objective = objective(results)
    console.table(results_table(results))
    console.summary(plan, record.seconds)
    for step in plan.steps:
        if step.stage == "curate":
            plan.store.verify(step.stage, step.key)
            data = build(node["data"], "data")
            console.note(f"data {step.title}: {usage(data, plan.folder(step))}")
    console.note(f"results in {folder}")
    console.note(f"to look at: {folder / 'report.html'}")
    return record.objective or 0.0


def _scale(cfg: Config) -> str:
    """A line that says how large this run is, and how to have it larger."""
    if not cfg["rounds"]:
        return "rounds=0: what was given is measured, nothing is clustered or trained on clusters"
    if cfg["scale"] == "paper":
        return "scale=paper: the published sizes"
    embedded = ", on the embedded data" if cfg["data"]["root"] == "embedded" else ""
    return (
        f"scale=demo: sizes that a laptop finishes in minutes{embedded}; your own: data.root=FOLDER, "
        "the paper's recipe: scale=paper data.root=FOLDER"
    )


def _blank(cfg: Config, entry: Entry, target: str, step: Step) -> Config:
    """A row of the table as far as it is known before anything has run."""
    return {
        "experiment": cfg["runtime"]["experiment"],
        "contestant": entry.name,
        "target": target,
        "k": entry.k,
        "seed": cfg["seed"],
        **entry.keys(),
        "transfer_key": step.key,
        "details": entry.details,
    }


def _scored(plan: Plan, planned: list[tuple[Config, Step]]) -> tuple[list[Result], list[np.ndarray]]:
    """The rows that the finished transfer artifacts fill, and the values of each on resampled samples."""
    results: list[Result] = []
    draws: list[np.ndarray] = []
    for blank, step in planned:
        plan.store.verify(step.stage, step.key, "metrics.json", "draws.npy")
        for score in json.loads((plan.folder(step) / "metrics.json").read_text()):
            row = {**blank, **score, "details": blank["details"] | score["details"]}
            results.append(Result(**row, seconds=step.seconds))
        draws += list(open_rows(plan.folder(step) / "draws.npy"))
    return results, draws
