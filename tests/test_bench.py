"""The benchmark's table: what is measured anew takes the place of its own lines and of no others."""

import csv
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "bench"
PARTS = ("first", "second")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("results"), importlib.import_module("measuring")


def table(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / "results.csv", newline="") as file:
        return {line["what"]: line for line in csv.DictReader(file)}


def test_a_part_replaces_its_own_lines_alone(bench: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    results, measuring = bench
    at_least = measuring.Bound(">=", 2)
    old = [
        measuring.ratio("speed", [4.0, 6.0, 5.0], [2.0, 2.0, 2.0], at_least, "images/s"),
        measuring.Row("on a GPU"),
    ]
    assert results.Results(tmp_path, PARTS).measure("second", old)
    assert results.Results(tmp_path, PARTS).measure("first", [measuring.Row("seconds", [3.0], None, "s")])
    before = table(tmp_path)
    assert list(before) == ["seconds", "speed", "on a GPU"]  # parts in their order
    speed = before["speed"]
    assert [
        speed[name] for name in ("median", "min", "max", "rounds", "target", "met", "ours", "theirs")
    ] == [
        *("2.50", "2.00", "3.00", "3", ">= 2", "yes", "5", "2"),
    ]
    slow = measuring.ratio("speed", [2.0], [2.0], at_least, "images/s")
    assert results.Results(tmp_path, PARTS).measure("second", [slow])
    after = table(tmp_path)
    assert list(after) == ["seconds", "speed"]
    assert after["seconds"] == before["seconds"]
    assert after["speed"]["met"] == "no"
    page = (tmp_path / "results.md").read_text()
    assert "| `bench.py second` | speed | 1.00 | >= 2 | **no** | 2 against 2 images/s |" in page
    assert "| `bench.py first` | seconds | 3.00 s |  |  |  |" in page


def test_a_part_that_fails_says_so_and_loses_nothing(
    bench: tuple[ModuleType, ModuleType], tmp_path: Path
) -> None:
    results, measuring = bench
    every = [measuring.Row(what, [1.0, 1.0]) for what in ("one", "two")]
    results.Results(tmp_path, PARTS).measure("first", every)

    def fails() -> Iterator[object]:
        yield measuring.Row("one", [2.0, 2.0])
        assert table(tmp_path)["one"]["median"] == "2.00"  # it is there at once
        raise RuntimeError("no | space left\nand more")

    assert not results.Results(tmp_path, PARTS).measure("first", fails())
    lines = table(tmp_path)
    assert [lines[what]["median"] for what in ("one", "two")] == ["2.00", "1.00"]
    last = (tmp_path / "results.md").read_text().split("What is missing of first |")[1]
    assert last.startswith(" failed: RuntimeError: no / space left |")
    assert results.Results(tmp_path, PARTS).measure("first", every)
    assert list(table(tmp_path)) == ["one", "two"]
