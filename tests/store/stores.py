"""Small stores, runs that used them, and the command in this process."""

import os
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from cf_lightning.runs import Run, RunStep
from cf_lightning.store import Store
from cf_lightning.store.__main__ import main

DAY = 86400
SMALL = (  # a whole run in some seconds; data.root and target.folder.root are to be added
    *("+experiment=demo", "runtime.accelerator=cpu", "model.width=4", "data=folder", "pretrain=supervised"),
    *("pretrain.epochs=1", "pretrain.batch_size=8", "clusterfit.epochs=1", "clusterfit.batch_size=8"),
    *("cluster.k=4", "cluster/engine=lloyd", "cluster_report.stability=0", "logger=none"),
    *("target=[folder]", "target.folder.test_share=0.25", "target.folder.view={resize:20,crop:20}"),
    *("contestant=[teacher,student]", "transfer=[knn]", "transfer.knn.protocol.k=3"),
)
CHAIN = {  # each with what it is made of
    "index/aa0": {},
    "pretrain/bb0": {"data": "index/aa0"},
    "extract/cc0": {"data": "index/aa0", "trunk": "pretrain/bb0"},
    "transfer/dd0": {"features": "extract/cc0"},
}


def publish(store: Store, name: str, inputs: dict[str, str] | None = None, days: float = 0) -> Path:
    """An artifact of two files, made so many days ago."""
    stage, _, key = name.partition("/")
    partial = store.partial(stage, key)
    (partial / "sheets").mkdir(parents=True)
    (partial / "a.txt").write_text(f"content of {name}")
    (partial / "sheets" / "b.bin").write_bytes(bytes(range(256)) * 40)
    told: dict[str, Any] = {"title": f"the {stage}", "seconds": 1.5, "inputs": inputs or {}}
    store.publish(stage, key, {**told, "config": {"k": 4}, "facts": {"top1": 25.0}, "commit": "abc"})
    age(store.path(stage, key), days)
    return store.path(stage, key)


def chain(store: Store, days: float = 0) -> list[str]:
    for name, inputs in CHAIN.items():
        publish(store, name, inputs, days)
    return list(CHAIN)


def age(folder: Path, days: float) -> None:
    when = time.time() - days * DAY
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (when, when))


def write_run(folder: Path, store: Store, names: list[str], days: float = 0, **changes: Any) -> Path:
    """A run that needs the named artifacts and was done so many days ago."""
    steps = [
        RunStep(stage=stage, key=key, title="", inputs={}, cached=False, seconds=1.0)
        for stage, key in (name.split("/") for name in names)
    ]
    told = {"status": "done", "experiment": "e", "overrides": [], "started": "2026-01-01T00:00:00+00:00"}
    Run(**{**told, "store": str(store.root), "steps": steps, **changes}).write(folder)
    age(folder, days)
    return folder


def command(store: Store, *words: object, capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    """The exit code or message, and what was printed; the store's option goes to the end."""
    line = ["store", *map(str, words), "--store", str(store.root)]
    capsys.readouterr()
    code: Any = 0
    with patch.object(sys, "argv", line), patch.dict(os.environ, COLUMNS="200"):
        try:
            main()
        except SystemExit as end:
            code = end.code
    return code, capsys.readouterr().out
