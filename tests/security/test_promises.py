"""``SECURITY.md`` and the lock file: each promise names a test that is there, each package has its hashes."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROMISES = (ROOT / "SECURITY.md").read_text().partition("## Not promised")[0]


def test_each_promise_names_a_test_that_is_there() -> None:
    promises = PROMISES.split("\n- ")[1:]
    assert len(promises) > 8
    for promise in promises:
        named = re.findall(r"`(tests/\S+?)::(\w+)`", promise)
        assert named, promise
        for file, test in named:
            assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{test}"


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-uv.lock"])
def test_every_package_of_a_lock_file_has_one_version_and_its_hashes(lock: str) -> None:
    lines = (ROOT / lock).read_text().replace("\\\n", " ").splitlines()
    entries = [line for line in lines if line.strip() and not line.startswith("#")]
    assert entries
    for entry in entries:
        name, *words = entry.split()
        assert re.fullmatch(r"[\w.-]+(\[[\w,-]+\])?==[\w.+!-]+", name), entry
        assert re.findall(r"--hash=sha256:[0-9a-f]{64}(?= |$)", entry), name
        assert all(not word.startswith("-") or word.startswith("--hash=sha256:") for word in words), name


def test_the_lock_file_has_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    locked = {line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert {re.split(r"[\s\[><=;]", one)[0].lower() for one in wanted} <= locked


@pytest.mark.parametrize(
    ("said", "code", "expected", "word"),
    [
        ("No known vulnerabilities found", 0, 0, "No known"),
        ("Found 2 known vulnerabilities in 1 package", 1, 1, "Found 2 known"),
        ("ERROR: torch: Dependency not found on PyPI and could not be audited", 1, 2, "NOT DONE"),
    ],
)
def test_an_audit_that_could_not_ask_says_so(
    said: str, code: int, expected: int, word: str, tmp_path: Path
) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\ncase \"$*\" in *--strict*) echo '{said}'; exit {code};; esac\n")
    python.chmod(0o755)
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "audit", tmp_path / ".ci")
    done = subprocess.run([tmp_path / ".ci" / "audit"], capture_output=True, text=True, check=False)
    assert done.returncode == expected
    assert word in done.stdout + done.stderr
