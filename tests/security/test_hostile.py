"""Every hostile case of ``make torture``: one message, nothing executed, nothing opened outside."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "experiments" / "reliability"))
CASES = list(importlib.import_module("hostile").cases())
WHOLE = ("names in a run", "names in W&B")


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.slow] * (case.name in WHOLE), id=case.name) for case in CASES],
)
def test_it_is_refused_or_harmless(case: Any, tmp_path: Path) -> None:
    outcome = case.attempt(tmp_path)
    assert outcome.survived, outcome.note


def test_every_case_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
