from pathlib import Path

import pytest

from cf_lightning.errors import ConfigError
from cf_lightning.keys import artifact_key, canonical, class_version, digest

CLUSTER = {
    "_target_": "cf_lightning.stages.cluster.Cluster",
    "k": 4,
    "engine": {"_target_": "cf_lightning.clustering.faiss.FaissKMeans", "iterations": 5},
    "runtime": {"devices": 1, "store": "a"},
}
INPUTS = {"features": "f" * 20}


def test_machine_and_order_of_fields_are_no_part_of_the_key() -> None:
    other = {**dict(reversed(CLUSTER.items())), "runtime": {"devices": 8, "store": "/elsewhere"}}
    assert artifact_key(CLUSTER, INPUTS) == artifact_key(other, INPUTS)


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        ({**CLUSTER, "k": 5}, INPUTS),
        ({**CLUSTER, "engine": {**CLUSTER["engine"], "iterations": 6}}, INPUTS),  # type: ignore[dict-item]
        (CLUSTER, {"features": "e" * 20}),
        (CLUSTER, {}),
    ],
)
def test_what_changes_the_numbers_changes_the_key(node: dict[str, object], inputs: dict[str, str]) -> None:
    assert artifact_key(node, inputs) != artifact_key(CLUSTER, INPUTS)


def test_a_data_node_enters_by_its_index_alone() -> None:
    node = {"_target_": "cf_lightning.stages.extract.Extract", "data": {"root": "/here"}, "layer": None}
    moved = {**node, "data": {"root": "/there"}}
    assert artifact_key(node, INPUTS) == artifact_key(moved, INPUTS)


def test_a_path_stands_for_the_content_of_its_file(tmp_path: Path) -> None:
    one, two = tmp_path / "one.pth", tmp_path / "two.pth"
    one.write_bytes(b"weights")
    two.write_bytes(b"weights")
    assert canonical({"path": str(one)}) == canonical({"path": str(two)})
    two.write_bytes(b"other")
    assert canonical({"path": str(one)}) != canonical({"path": str(two)})
    with pytest.raises(ConfigError, match="no such file"):
        canonical({"path": str(tmp_path / "three.pth")})


def test_version_of_a_foreign_class_is_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "foreign_engine.py"
    module.write_text("class Engine: ...\n")
    before = class_version("foreign_engine.Engine")
    class_version.cache_clear()
    module.write_text("class Engine: ...  # changed\n")
    assert class_version("foreign_engine.Engine") != before


def test_version_is_read_from_the_source() -> None:
    assert class_version("cf_lightning.stages.train.Train") == "1"
    with pytest.raises(ConfigError, match="has no class Nothing"):
        class_version("cf_lightning.stages.train.Nothing")


def test_digest_ignores_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1}) != digest({"a": 1, "b": [2, 1]})
