"""The torture's own eyes: what is mixed up is seen, and a ledger goes on where it stopped."""

import csv
import importlib
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cf_lightning.data.folder import FolderImages
from cf_lightning.data.views import View

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "reliability"
Torture = Callable[[str], ModuleType]


@pytest.fixture
def torture(monkeypatch: pytest.MonkeyPatch) -> Torture:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_a_ledger_goes_on_and_counts_by_kind(torture: Torture, tmp_path: Path) -> None:
    case, ledger = torture("case"), torture("ledger")

    def tried(name: str, kind: str = "kill") -> object:
        return case.Case(kind, name, lambda folder: case.Outcome())

    first = ledger.Ledger(tmp_path)
    first.add(tried("one"), case.Outcome(note="fine"), 1.0)
    assert first.all_survived()
    first.add(tried("two"), case.Outcome(lost=1, note="a\nlong story"), 1.0)
    second = ledger.Ledger(tmp_path)
    assert second.has(tried("one"))
    assert not second.has(tried("three"))
    assert not second.has(tried("one", kind="labels"))
    second.add(tried("three", "labels"), case.Outcome(wrong_label=2, hangs=1), 1.0)
    assert not second.all_survived()
    with open(tmp_path / "torture.csv", newline="") as file:
        counts = list(csv.DictReader(file))
    assert counts == [
        {"kind": "kill", "injected": "2", "survived": "1", "lost": "1", "wrong_label": "0", "hangs": "0"},
        {"kind": "labels", "injected": "1", "survived": "0", "lost": "0", "wrong_label": "2", "hangs": "1"},
    ]


def test_an_attempt_that_raises_is_lost(torture: Torture) -> None:
    case, tortures = torture("case"), torture("torture")

    def attempt(folder: Path) -> None:
        raise ZeroDivisionError(folder.name)

    outcome = tortures.tried(case.Case("kill", "one", attempt))
    assert outcome.lost == 1
    assert "ZeroDivisionError" in outcome.note


def test_every_case_has_a_name_of_its_own(torture: Torture) -> None:
    kinds = torture("torture").KINDS
    names = [(case.kind, case.name) for cases in kinds.values() for case in cases()]
    assert len(set(names)) == len(names)
    kills = [kind for kind, _ in names if kind.startswith("kill")]
    assert kills.count("kill, images") >= 100
    assert kills.count("kill, clips") >= 20


def test_two_samples_that_change_places_are_seen(torture: Torture, tmp_path: Path) -> None:
    """The features of an album are its colours here, and its clusters the brighter and the darker half."""
    album = torture("album").Album(tmp_path / "album", random.Random(0), pairs=6)
    labels = torture("labels")
    index = FolderImages(root=str(album.root), view=View(resize=24, crop=20)).index()
    rows = np.array([album.colours[index.key(row)] for row in range(len(index))], np.float32)
    centroids = np.array([[64, 64, 64], [192, 192, 192]], np.float32)
    ids = np.square(rows[:, None] - centroids).sum(-1).argmin(1)
    assert labels.mixed_up(album, index, rows, ids, centroids) == 0

    one, other = (int(np.flatnonzero(ids == cluster)[0]) for cluster in (0, 1))
    swapped = rows.copy()
    swapped[[one, other]] = rows[[other, one]]
    assert labels.mixed_up(album, index, swapped, ids, centroids) >= 2
    wrong = ids.copy()
    wrong[[one, other]] = ids[[other, one]]
    assert labels.mixed_up(album, index, rows, wrong, centroids) >= 2


def test_a_training_label_of_another_sample_is_seen(torture: Torture, tmp_path: Path) -> None:
    album = torture("album").Album(tmp_path / "album", random.Random(0), pairs=6)
    labels = torture("labels")
    node = {
        "_target_": "cf_lightning.data.folder.FolderImages",
        "root": str(album.root),
        "view": {"resize": 24, "crop": 20},
    }
    index = FolderImages(root=str(album.root)).index()
    ids = np.arange(len(index)) % 3
    assert labels.mixed_up_in_training(album, node, index, ids, random.Random(1)) == 0
    one = min(album.colours)
    other = next(key for key in album.colours if key not in (one, album.twins()[one]))
    album.colours[one], album.colours[other] = album.colours[other], album.colours[one]
    assert labels.mixed_up_in_training(album, node, index, ids, random.Random(1)) >= 2
