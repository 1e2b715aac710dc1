import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from omegaconf import OmegaConf

from cf_lightning.config import Component, build, conf_dir, register_resolvers
from cf_lightning.data.index import SCHEMA, Index
from cf_lightning.rows import describe_rows
from cf_lightning.runtime import Runtime
from cf_lightning.stages.transfer import Transfer

Labels = Sequence[str | None]


def _index(labels: Labels, splits: Sequence[str]) -> Index:
    columns = {
        "key": [f"{row:06d}.png" for row in range(len(labels))],
        "split": list(splits),
        "labels": [[] if label is None else label.split() for label in labels],
        "tags": [[] for _ in labels],
    }
    empty = [None] * len(labels)
    table = pa.table(
        {name: pa.array(columns.get(name, empty), SCHEMA.field(name).type) for name in SCHEMA.names}
    )
    return Index(table, "images")


@pytest.fixture
def make_index() -> Callable[[Labels, Sequence[str]], Index]:
    return _index


@dataclass
class Measured:
    metrics: list[dict[str, Any]]
    facts: dict[str, float]
    written: bytes

    def value(self, metric: str = "top1") -> float:
        return float(next(score["value"] for score in self.metrics if score["metric"] == metric))


@pytest.fixture
def measure(tmp_path: Path) -> Callable[..., Measured]:
    def run(
        protocol: Component,
        features: np.ndarray,
        labels: Labels,
        splits: Sequence[str],
        skipped: Sequence[int] = (),
        layers: dict[str, int] | None = None,
    ) -> Measured:
        index = _index(labels, splits)
        index.write(tmp_path)
        np.save(tmp_path / "features.npy", features.astype(np.float16))
        np.save(tmp_path / "skipped.npy", np.array(skipped, dtype=np.int64))
        describe_rows(tmp_path, "features", index, layers=layers or {"pooled": features.shape[-1]})
        stage = Transfer(protocol=protocol, runtime=Runtime(accelerator="cpu"))  # type: ignore[arg-type]
        stage.check(data=index)
        stage.run(tmp_path, features=tmp_path, data=tmp_path)
        written = (tmp_path / "metrics.json").read_bytes()
        return Measured(json.loads(written), json.loads((tmp_path / "facts.json").read_text()), written)

    return run


@pytest.fixture
def from_yaml() -> Callable[[str, str], Any]:
    """The stage of ``conf/transfer/<name>.yaml`` at a scale, with ``transfer.seed=5``."""

    def stage(name: str, scale: str) -> Any:
        register_resolvers()
        file = conf_dir() / "transfer" / f"{name}.yaml"
        assert file.read_text().startswith(f"# @package transfer.{name}\n")
        config = OmegaConf.create(
            {"scale": scale, "runtime": {"_target_": "cf_lightning.runtime.Runtime"}, "transfer": {"seed": 5}}
        )
        config.transfer[name] = OmegaConf.load(file)
        node: Any = OmegaConf.to_container(config.transfer[name], resolve=True)
        return build(node, f"transfer.{name}")

    return stage


@dataclass
class Target:
    features: np.ndarray
    labels: list[str]
    splits: list[str]

    def labels_rolled_in(self, split: str) -> list[str]:
        rows = [row for row, name in enumerate(self.splits) if name == split]
        labels = list(self.labels)
        for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
            labels[row] = self.labels[other]
        return labels


@pytest.fixture
def blobs() -> Callable[..., Target]:
    def make(spread: float, num_samples: int = 1200, num_classes: int = 4, dim: int = 16) -> Target:
        draw = np.random.default_rng(0)
        classes = draw.integers(num_classes, size=num_samples)
        centres = draw.normal(size=(num_classes, dim))
        features = centres[classes] + spread * draw.normal(size=(num_samples, dim))
        splits = draw.choice(["train", "test"], size=num_samples)  # interleaved: rows are not positions
        return Target(features, [f"class{label}" for label in classes], splits.tolist())

    return make
