import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from cf_lightning.clustering.space import FeatureSpace, Transform
from cf_lightning.data.index import Index
from cf_lightning.errors import ConfigError, DataError, StoreError
from cf_lightning.stages.space import Space
from samples import NONE, blobs, make_features, unit


def transformed(
    tmp_path: Path,
    features: np.ndarray,
    fit_rows: np.ndarray | None = None,
    skipped: np.ndarray = NONE,
    **settings: Any,
) -> tuple[np.ndarray, Transform]:
    rows = np.arange(len(features))
    present = np.setdiff1d(rows, skipped)
    chosen = present if fit_rows is None else fit_rows
    transform = FeatureSpace(**settings).write(features, chosen, present, tmp_path / "space.npy")
    return np.load(tmp_path / "space.npy"), transform


def test_none_is_a_copy_and_l2_has_norm_one(tmp_path: Path) -> None:
    features = blobs()
    plain, _ = transformed(tmp_path, features, normalize="none")
    assert plain.tobytes() == features.tobytes()
    normalized, _ = transformed(tmp_path, features)
    assert normalized.dtype == np.float32
    assert normalized == pytest.approx(unit(features), abs=1e-6)
    assert np.linalg.norm(normalized, axis=1) == pytest.approx(np.ones(500), abs=1e-6)


def test_scale_does_not_matter_on_the_unit_sphere(tmp_path: Path) -> None:
    features = blobs()
    scales = np.random.default_rng(1).uniform(0.5, 2, (len(features), 1)).astype(np.float32)
    one, _ = transformed(tmp_path, features)
    other, _ = transformed(tmp_path, features * scales)
    assert one == pytest.approx(other, abs=1e-6)


def test_float16_and_float32_files_agree(tmp_path: Path) -> None:
    features = blobs().astype(np.float16)
    np.save(tmp_path / "half.npy", features)
    before = (tmp_path / "half.npy").read_bytes()
    half = np.load(tmp_path / "half.npy", mmap_mode="r")
    single = features.astype(np.float32)
    for settings in ({}, {"normalize": "none"}, {"pca": 3}, {"pca": 3, "whiten": True}):
        assert np.array_equal(
            transformed(tmp_path, half, **settings)[0], transformed(tmp_path, single, **settings)[0]
        )
    assert (tmp_path / "half.npy").read_bytes() == before
    assert np.array_equal(single, features.astype(np.float32))  # normalising touches a copy


@pytest.mark.parametrize("whiten", [False, True])
def test_components_are_those_of_scikit_learn(whiten: bool, tmp_path: Path) -> None:
    from sklearn.decomposition import PCA

    features = blobs(400, 12) @ np.diag(np.linspace(0.2, 4, 12)).astype(np.float32) + np.float32(30)
    found, _ = transformed(tmp_path, features, pca=5, whiten=whiten, normalize="none")
    expected = PCA(5, whiten=whiten, svd_solver="full").fit_transform(features.astype(np.float64))
    signs = np.sign((found * expected).sum(axis=0))
    assert found * signs == pytest.approx(expected, rel=1e-2, abs=1e-2)
    if whiten:
        assert found.var(axis=0) == pytest.approx(np.ones(5), rel=1e-4)
    assert found.mean(axis=0) == pytest.approx(np.zeros(5), abs=1e-4)


def test_a_projection_is_fitted_on_some_rows_and_applied_to_all_alike(tmp_path: Path) -> None:
    features = blobs(400, 12)
    features[300:] *= 7
    first = np.arange(300)
    settings: dict[str, Any] = {"pca": 4, "whiten": True}
    found, transform = transformed(tmp_path, features, first, **settings)
    assert found.shape == (400, 4)
    alone, other = transformed(tmp_path, features[:300], **settings)
    assert found[:300] == pytest.approx(alone, abs=1e-5)
    assert transform(features) == pytest.approx(found, abs=1e-5)
    assert transform.mean is not None
    assert other.mean is not None
    assert transform.mean.tobytes() == other.mean.tobytes()
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(400), abs=1e-5)  # L2 comes last


@pytest.mark.parametrize("settings", [{}, {"normalize": "none"}, {"pca": 3, "whiten": True}])
def test_the_size_of_chunks_does_not_matter(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = transformed(tmp_path, blobs(), **settings)
    monkeypatch.setattr(FeatureSpace, "CHUNK_BYTES", 4 * 8 * 37)
    chunked, _ = transformed(tmp_path, blobs(), **settings)
    assert chunked == pytest.approx(whole, abs=1e-5)


def test_skipped_rows_are_zeros_and_have_no_say(tmp_path: Path) -> None:
    features = blobs()
    skipped = np.array([0, 77, 78, 499])
    features[skipped] = np.nan
    found, _ = transformed(tmp_path, features, skipped=skipped, pca=3)
    assert not found[skipped].any()
    kept = np.delete(np.arange(500), skipped)
    assert found[kept] == pytest.approx(transformed(tmp_path, features[kept], pca=3)[0], abs=1e-6)


def test_not_a_single_row_is_present(tmp_path: Path) -> None:
    found, _ = transformed(tmp_path, blobs(5), skipped=np.arange(5))
    assert not found.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_named(value: float, tmp_path: Path) -> None:
    features = blobs()
    features[[17, 450], 3] = value
    np.save(tmp_path / "f.npy", features)
    file = np.load(tmp_path / "f.npy", mmap_mode="r")
    for settings in ({}, {"normalize": "none"}, {"pca": 2}):
        with pytest.raises(DataError, match=r"f\.npy: 2 rows \(17, 450\) hold NaN or Inf"):
            transformed(tmp_path, file, np.arange(400), **settings)
    assert not (tmp_path / "space.npy").exists()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0, 1e-30])
def test_rows_without_a_direction_are_named(value: float, tmp_path: Path) -> None:
    features = blobs()
    features[5:15] = value
    np.save(tmp_path / "f.npy", features)
    file = np.load(tmp_path / "f.npy", mmap_mode="r")
    with pytest.raises(
        DataError,
        match=r"f\.npy: 10 rows \(5, 6, 7, 8, 9, \.\.\.\) are all zeros.*cluster\.space\.normalize=none",
    ):
        transformed(tmp_path, file)
    assert np.array_equal(transformed(tmp_path, file, normalize="none")[0], features)


def test_more_components_than_there_can_be(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"cluster\.space\.pca=9: .*500 rows .* 8 dimensions; choose 8 or less"
    ):
        transformed(tmp_path, blobs(), pca=9)
    with pytest.raises(ConfigError, match=r"cluster\.space\.pca=6: .*5 rows .* choose 5 or less"):
        transformed(tmp_path, blobs(), np.arange(5), pca=6)
    assert transformed(tmp_path, blobs(), pca=8)[0].shape == (500, 8)


def test_settings_that_contradict_or_leave_their_range() -> None:
    with pytest.raises(ValidationError, match="no components to whiten; set pca"):
        FeatureSpace(whiten=True)
    for wrong in ({"pca": 0}, {"pca": 2.5}, {"normalize": "L2"}, {"center": True}):
        with pytest.raises(ValidationError):
            FeatureSpace.model_validate(wrong)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    features = blobs(300).astype(np.float16)
    features[4] = 0  # as extraction leaves a skipped row
    return make_features(tmp_path, features)


def test_the_stage_writes_rows_of_its_index_fitted_on_train(inputs: dict[str, Path]) -> None:
    out = inputs["out"]
    (out / "features.npy").write_bytes(b"half a file of a killed attempt")
    Space(pca=3).run(**inputs)
    found = np.load(out / "features.npy")
    assert (found.shape, found.dtype) == ((300, 3), np.float32)
    assert np.load(out / "skipped.npy").tolist() == [4]
    index = Index.read(inputs["data"])
    facts = json.loads((out / "features.json").read_text())
    assert facts["index"] == index.fingerprint
    assert (facts["rows"], facts["dim"], facts["pca"], facts["normalize"]) == (300, 3, 3, "l2")
    features = np.load(inputs["features"] / "features.npy").astype(np.float32)
    train = np.setdiff1d(index.rows("train"), [4])
    assert np.load(out / "mean.npy") == pytest.approx(features[train].mean(axis=0), abs=1e-5)
    again = Transform(np.load(out / "mean.npy"), np.load(out / "components.npy"), True)
    present = np.delete(np.arange(300), 4)
    assert again(features[present]) == pytest.approx(found[present], abs=1e-6)
    assert Space(pca=3).disk_bytes(data=index) == 300 * 3 * 4
    assert Space().disk_bytes(data=index) is None


def test_the_stage_refuses_features_that_are_of_other_samples_or_truncated(inputs: dict[str, Path]) -> None:
    file = inputs["features"] / "features.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with pytest.raises(StoreError, match=r"features\.npy is missing or truncated"):
        Space().run(**inputs)
    file.write_bytes(whole)
    index = Index.read(inputs["data"])
    Index(index.table.slice(0, 299), "here").write(inputs["data"])
    with pytest.raises(StoreError, match="fingerprint"):
        Space().run(**inputs)
