"""Stores that earlier releases have written, under ``releases/``: read by this one, and found by their keys.

A new format gets a folder more, written by ``write_release.py``; those that are there stay as they are.
"""

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cf_lightning.data.index import Index
from cf_lightning.errors import StoreError
from cf_lightning.pipeline import method
from cf_lightning.plan import Plan
from cf_lightning.rows import read_rows
from cf_lightning.store import Store
from cf_lightning.store.manifest import FORMAT
from stores import command
from write_release import KEPT, RELEASES, SETTINGS

ROOT = Path(__file__).parents[2]
FORMATS = sorted(folder.name for folder in RELEASES.glob("format_*"))


@pytest.fixture(params=FORMATS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    shutil.copytree(RELEASES / request.param, tmp_path / "store")
    return Store(str(tmp_path / "store"))


def test_there_is_one_of_each_format() -> None:
    assert [f"format_{number}" for number in range(1, FORMAT + 1)] == FORMATS
    for name in FORMATS:
        (manifest, _) = sorted((RELEASES / name).glob("*/*/manifest.json"))
        assert json.loads(manifest.read_text()).get("format", 1) == int(name.removeprefix("format_"))


def test_it_is_whole_and_read(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(store, "verify", capsys=capsys)[0] == 0
    (cluster, index) = (store.path(stage, key) for stage, key in store.finished())
    samples = Index.read(index)
    labels = read_rows(cluster, "labels", samples)
    assert len(samples) == len(labels) == 24
    assert np.unique(labels).tolist() == [0, 1, 2, 3]
    assert {row.split("/")[0] for row in samples.table["key"].to_pylist()} == {"blue", "green", "red"}
    _, out = command(store, "show", "cluster/", capsys=capsys)
    assert f"data: index/{index.name[:10]}  data" in out
    assert "no longer there" in out, "features were not kept"
    _, out = command(store, "ls", capsys=capsys)
    assert f"index/{index.name[:10]}" in out
    assert "2 artifacts" in out


def test_its_artifacts_are_those_that_this_release_would_make(
    store: Store, compose: Callable[..., dict[str, Any]]
) -> None:
    """Where keys move, say so in CHANGELOG.md, and write all of ``releases/`` anew that is to be found."""
    plan = Plan(store)
    method(plan, compose(*SETTINGS, f"data.root={RELEASES / 'images.zip'}"))
    assert {step.stage for step in plan.steps if step.cached} == set(KEPT)
    for step in plan.steps:
        if step.cached:
            store.verify(step.stage, step.key)


@pytest.mark.parametrize("store", [f"format_{FORMAT}"], indirect=True)
def test_a_store_of_a_later_release_is_refused_by_a_plan(
    store: Store, compose: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = [*SETTINGS, f"data.root={RELEASES / 'images.zip'}"]
    monkeypatch.setattr("cf_lightning.store.manifest.FORMAT", FORMAT - 1)
    with pytest.raises(StoreError, match=r"written by a later release .* update cf_lightning or use another"):
        method(Plan(store), compose(*plan))


def test_the_changelog_begins_with_this_version_and_says_of_each_whether_keys_move() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    _, *entries = (ROOT / "CHANGELOG.md").read_text().split("\n## ")
    assert entries[0].startswith(f"[{version}]")
    for entry in entries:
        assert "\n**Keys" in entry, entry.splitlines()[0]
