"""A manifest that is not what was written is refused in one message that names it."""

import json
from pathlib import Path
from typing import Any

import pytest

from cf_lightning.errors import StoreError
from cf_lightning.plan import Plan
from cf_lightning.store import Store
from cf_lightning.store.manifest import FORMAT, parse, sealed
from stores import publish

SUM = "0" * 64
FILES = {"a": {"bytes": 3, "sha256": [SUM]}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def test_any_flipped_bit_is_found(store: Store) -> None:
    text = bytearray((publish(store, "stage/k1") / "manifest.json").read_bytes())
    whole = parse(bytes(text), "here", "")
    found: list[str] = []
    for place in range(8 * len(text)):
        text[place // 8] ^= 1 << place % 8
        try:
            assert parse(bytes(text), "here", "") == whole, f"bit {place}"
        except StoreError as error:
            found.append(str(error))
        text[place // 8] ^= 1 << place % 8
    assert len(found) > 7.9 * len(text), "what is found beside spaces"
    assert all(one.startswith("here was changed after it was made (") for one in found)


def test_any_truncation_is_found(store: Store) -> None:
    text = (publish(store, "stage/k1") / "manifest.json").read_bytes()
    for length in range(len(text)):
        with pytest.raises(StoreError, match=r"^here was changed"):
            parse(text[:length], "here", "")


@pytest.mark.parametrize(
    "manifest",
    [
        *([], "text", 7, None, {}, {"files": []}, {"files": None}, {"files": FILES, "format": "1"}),
        *(
            {"files": {"a": {}}},
            {"files": {"a": {"bytes": -1, "sha256": []}}},
            {"files": FILES, "inputs": []},
        ),
        *({"files": {"a": {"bytes": 3, "sha256": "0"}}}, {"files": {"a": {"bytes": 3.5, "sha256": [SUM]}}}),
        *(dict(files={name: FILES["a"]}) for name in ("../a", "/a", "a/../../b", "", "./a", "a//b")),
        *({"files": FILES, "seconds": "long"}, {"files": FILES, "config": []}, {"files": FILES, "format": 2}),
        *({"files": FILES, "sha256": SUM}, {"files": FILES, "inputs": []}),
    ],
    ids=str,
)
def test_what_is_no_manifest_is_refused_where_a_plan_looks_it_up(manifest: Any, store: Store) -> None:
    file = publish(store, "stage/k1") / "manifest.json"
    file.write_text(json.dumps(manifest))
    with pytest.raises(StoreError) as error:
        store.manifest("stage", "k1")
    message = str(error.value)
    assert message.startswith(f"{file} was changed after it was made (")
    assert f"remove {file.parent} to have it made again" in message
    assert "python -m cf_lightning.store verify" in message
    with pytest.raises(StoreError, match="was changed after"):
        store.verify("stage", "k1")


def test_a_plan_refuses_a_damaged_manifest(store: Store) -> None:
    plan = Plan(store)
    step = plan.add("stage", {"k": 4}, "title")
    file = publish(store, f"stage/{step.key}") / "manifest.json"
    file.write_bytes(b"\xff" + file.read_bytes())
    with pytest.raises(StoreError, match="was changed after") as error:
        Plan(store).add("stage", {"k": 4}, "title")
    assert str(file) in str(error.value)


def test_an_artifact_without_a_manifest_is_named_and_not_written_over(store: Store) -> None:
    folder = publish(store, "stage/k1")
    (folder / "manifest.json").unlink()
    with pytest.raises(StoreError, match=rf"^{folder}/manifest.json is missing; remove {folder}"):
        store.manifest("stage", "k1")
    assert store.manifest("stage", "k2") is None


def test_of_a_later_release_it_says_so() -> None:
    later = sealed({"files": "elsewhere", "format": FORMAT + 1})
    with pytest.raises(
        StoreError, match=r"^here: written by a later release \(format 3; .* up to 2\)"
    ) as error:
        parse(json.dumps(later).encode(), "here", "remedy")
    assert "update cf_lightning or use another store" in str(error.value)
    damaged = {**later, "title": "x"}
    with pytest.raises(StoreError, match=r"^here was changed after it was made"):
        parse(json.dumps(damaged).encode(), "here", "remedy")


def test_of_an_earlier_release_it_is_read() -> None:
    earlier = {"title": "t", "seconds": 1, "inputs": {"data": "0a"}, "files": FILES, "commit": None}
    assert parse(json.dumps(earlier).encode(), "here", "") == earlier


def test_whatever_json_does_to_it_the_manifest_is_whole(store: Store) -> None:
    partial = store.partial("stage", "k1")
    partial.mkdir(parents=True)
    (partial / "manifest.json").write_text("of an attempt that was killed in the last moment")
    facts = {"facts": {"by_k": {16: (0.1, float("inf")), 4: None}, "é": 1e-300}, "seconds": 0.1 + 0.2}
    written = store.publish("stage", "k1", facts)
    assert store.manifest("stage", "k1") == written
    assert written["files"] == {}
    store.verify("stage", "k1")
