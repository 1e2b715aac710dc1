"""Broken and odd images and clips: right pixels, or refused by name, or left out; never a hang."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "reliability"


@pytest.fixture
def media(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("media")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux for peaks of memory")
@pytest.mark.parametrize(
    "part",
    [
        "images",
        "folders",
        pytest.param("clips", marks=pytest.mark.slow),
        pytest.param("bombs", marks=pytest.mark.slow),
    ],
)
def test_every_file(part: str, media: ModuleType, tmp_path: Path) -> None:
    cases = list(media.PARTS[part]())
    assert len(cases) >= {"images": 300, "folders": 9, "clips": 150, "bombs": 40}[part]
    assert len({case.name for case in cases}) == len(cases)
    outcomes = {}
    for number, case in enumerate(cases):
        (tmp_path / str(number)).mkdir()
        outcomes[case.name] = case.attempt(tmp_path / str(number))
    broken = {name: outcome for name, outcome in outcomes.items() if not outcome.survived}
    assert not broken
