"""Several layers of a network in one artifact: whose numbers they are, and what transfer makes of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cf_lightning.data.folder import FolderImages
from cf_lightning.data.index import Index
from cf_lightning.models.layers import Layers
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.rows import read_rows
from cf_lightning.runtime import Runtime
from cf_lightning.stages.extract import Extract
from cf_lightning.stages.transfer import Transfer
from cf_lightning.transfer.knn import KNN

LAYERS = ["2", "8", "13"]  # two of the convolutions after their ReLU, and the pooled features


@pytest.fixture
def extracted(
    image_folder: Callable[..., Path], tmp_path: Path
) -> Callable[..., tuple[Extract, Path, Index]]:
    def make(**settings: Any) -> tuple[Extract, Path, Index]:
        source = FolderImages(root=str(image_folder()), holdout=0.25, view={"resize": 20, "crop": 16})  # type: ignore[arg-type]
        stage = Extract(
            **{"data": source, "model": TinyTrunk(width=2), "layers": LAYERS, "layer_dim": 144} | settings,
            **{"dtype": "float32", "batch_size": 7, "precision": "32-true", "random_seed": 3},  # type: ignore[arg-type]
            runtime=Runtime(accelerator="cpu"),
        )
        out, index = tmp_path / "out", source.index()
        out.mkdir()
        index.write(out)
        stage.check(data=index)
        stage.run(out, data=out)
        return stage, out, index

    return make


def test_the_layers_of_a_row_stand_beside_each_other(extracted: Callable[..., Any]) -> None:
    stage, out, index = extracted()
    rows = read_rows(out, "features", index)
    torch.manual_seed(3)
    trunk = TinyTrunk(width=2).build().eval()
    images = torch.stack([stage.data.view.build()(stage.data.sample(index, row)) for row in (0, 11, 59)])
    with torch.inference_mode():
        by_hand = Layers(trunk, LAYERS, 144)(images)
    assert json.loads((out / "features.json").read_text())["layers"] == {
        name: one.shape[1] for name, one in zip(LAYERS, by_hand, strict=True)
    }
    np.testing.assert_allclose(rows[[0, 11, 59]], torch.cat(by_hand, dim=1), rtol=1e-4, atol=1e-5)


def test_each_layer_has_norm_1(extracted: Callable[..., Any]) -> None:
    _, out, index = extracted(normalize=True)
    rows = read_rows(out, "features", index)
    widths = json.loads((out / "features.json").read_text())["layers"].values()
    for part in np.split(rows, np.cumsum(list(widths))[:-1], axis=1):
        np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1, rtol=1e-5)


def test_every_layer_is_measured_as_it_would_be_alone(extracted: Callable[..., Any], tmp_path: Path) -> None:
    stage, out, _ = extracted()
    found = {}
    for layer in ["all", *LAYERS]:
        if layer == "all":
            features = out
        else:
            features = tmp_path / f"layer{layer}"
            features.mkdir()
            alone = stage.model_copy(update={"layers": [layer]})
            alone.run(features, data=out)
        measured = tmp_path / f"measured{layer}"
        measured.mkdir()
        Transfer(protocol=KNN(k=5), runtime=stage.runtime).run(measured, features=features, data=out)
        found[layer] = json.loads((measured / "metrics.json").read_text())
    assert found["all"] == [score for layer in LAYERS for score in found[layer]]
    assert [score["layer"] for score in found["all"] if score["metric"] == "top1"] == LAYERS
    facts = json.loads((tmp_path / "measuredall" / "facts.json").read_text())
    assert set(facts) >= {f"{layer} top1" for layer in LAYERS}


def test_a_layer_twice(image_folder: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="a layer stands there twice"):
        Extract(data=FolderImages(root="x"), model=TinyTrunk(), layers=["2", "2"])
