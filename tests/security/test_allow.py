"""Which classes a configuration may name, in the driver and in its workers."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cf_lightning import torchrun
from cf_lightning.config import build
from cf_lightning.errors import ConfigError
from cf_lightning.security import VARIABLE, allow, allowed
from cf_lightning.worker import run_stage

STAGE = """
from pathlib import Path
from cf_lightning.stages.base import Stage

class Note(Stage):
    text: str
    def run(self, out: Path, **inputs: Path) -> None:
        (out / "note.txt").write_text(self.text)
"""
NOTE = {"_target_": "my_package.stage.Note", "text": "done"}


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "stage.py").write_text(STAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    allow([])


def job(folder: Path, **more: Any) -> Path:
    partial = folder / "note" / "key.partial"
    partial.mkdir(parents=True)
    (partial / "job.json").write_text(json.dumps({"node": NOTE, "inputs": {}, **more}))
    return partial


@pytest.mark.usefixtures("own_package")
def test_a_package_of_one_s_own_is_built_where_it_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"note\._target_=my_package\.stage\.Note: .*security\.allow=\["):
        build(NOTE, "note")
    allow(["my_package"])
    assert build(NOTE, "note").text == "done"
    with pytest.raises(ConfigError, match=r"_target_=os\.system: .*cf_lightning, my_package are built"):
        build({"_target_": "os.system", "command": "true"}, "note")
    with pytest.raises(ConfigError, match="no Component of cf_lightning, my_package"):
        build({"_target_": "my_package.stage.Path"}, "note")
    allow([])
    with pytest.raises(ConfigError, match=r"security\.allow"):
        build(NOTE, "note")


@pytest.mark.usefixtures("own_package")
def test_what_a_worker_builds_is_the_driver_s_word_and_not_the_job_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = job(tmp_path, security={"allow": ["my_package"]}, allow=["my_package"])
    with pytest.raises(ConfigError, match=r"security\.allow"):
        run_stage(partial)
    allow(["my_package"])
    run_stage(partial)
    assert (partial / "note.txt").read_text() == "done"
    started: dict[str, Any] = {}
    monkeypatch.setattr(subprocess, "Popen", lambda command, **settings: started.update(settings))
    torchrun.start(partial, 1, 1, [])
    assert started["env"][VARIABLE] == "my_package"


@pytest.mark.parametrize("wrong", ["my_package", ["my package"], [None], ["a,b"], {"a": 1}, None])
def test_a_list_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"security\.allow=.*as in \[my_package\]"):
        allow(wrong)
    assert allowed() == ["cf_lightning"]
    assert VARIABLE not in os.environ
