import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import PrivateAttr

from cf_lightning.clustering.faiss import FaissKMeans
from cf_lightning.clustering.sheets import PLACES, Gallery, Sheets
from cf_lightning.data.folder import FolderImages
from cf_lightning.data.index import Index
from cf_lightning.errors import StoreError
from cf_lightning.pipeline import method
from cf_lightning.plan import Plan
from cf_lightning.rows import describe_rows
from cf_lightning.runtime import Runtime
from cf_lightning.stages.cluster import Cluster
from cf_lightning.stages.cluster_report import ClusterReport
from cf_lightning.store import Store
from cf_lightning.tracking.csv import CSVTracker
from cf_lightning.tracking.wandb import WandbTracker

Inputs = dict[str, Path]
NAME = "<b>red&"


@pytest.fixture
def source(image_folder: Callable[..., Path]) -> FolderImages:
    """Classes are colours; the name of one is not harmless."""
    root = image_folder(per_class=20)
    (root / "red").rename(root / NAME)
    return FolderImages(root=str(root), holdout=0.2)


@pytest.fixture
def inputs(source: FolderImages, tmp_path: Path) -> Inputs:
    """Mean colours as features, one row skipped, and the clusters of k-means."""
    folders = {name: tmp_path / name for name in ("data", "features", "labels", "out")}
    for folder in folders.values():
        folder.mkdir()
    index = source.index()
    index.write(folders["data"])
    features = np.stack([source.image(index, row).float().mean((1, 2)).numpy() for row in range(len(index))])
    features[3] = 0
    np.save(folders["features"] / "features.npy", features)
    np.save(folders["features"] / "skipped.npy", np.array([3]))
    describe_rows(folders["features"], "features", index)
    clusterer().run(folders["labels"], data=folders["data"], features=folders["features"])
    return folders


def clusterer(k: int = 3) -> Cluster:
    return Cluster(k=k, engine=FaissKMeans(iterations=10, restarts=5), runtime=Runtime(accelerator="cpu"))


def report(source: FolderImages, inputs: Inputs, logger: Any = None, **settings: Any) -> Path:
    ClusterReport(
        data=source,
        cluster=clusterer(),
        sheets=Sheets(columns=2, tile=32),
        runtime=Runtime(accelerator="cpu", logger=logger),
        **settings,
    ).run(**inputs)
    return inputs["out"]


def test_the_numbers_are_those_of_the_clusters(source: FolderImages, inputs: Inputs) -> None:
    out = report(source, inputs)
    index = Index.read(inputs["data"])
    labels, squared = (np.load(inputs["labels"] / f"{name}.npy") for name in ("labels", "distances"))
    train, val = (np.setdiff1d(index.rows(split), [3]) for split in ("train", "val"))
    found = json.loads((out / "report.json").read_text())
    assert found["train"]["rows"] + found["val"]["rows"] == 59
    assert found["train"]["inertia"] == pytest.approx(squared[train].sum(dtype=np.float64), rel=1e-5)
    ratio = squared[val].mean(dtype=np.float64) / squared[train].mean(dtype=np.float64)
    assert found["val"]["distance_ratio"] == pytest.approx(ratio, rel=1e-5)
    assert found["sizes"]["largest"] == np.bincount(labels[train]).max()
    assert found["agreement"]["labels"]["names"] == 3
    assert found["agreement"]["labels"]["nmi"] > 0.8
    assert list(found["agreement"]) == ["labels"], "nothing is known of tags"
    assert "stability" not in found
    facts = json.loads((out / "facts.json").read_text())
    assert facts["nmi_labels"] == found["agreement"]["labels"]["nmi"]


def test_the_table_has_a_row_for_each_cluster(source: FolderImages, inputs: Inputs) -> None:
    table = pq.read_table(report(source, inputs) / "clusters.parquet").to_pylist()
    index, labels = Index.read(inputs["data"]), np.load(inputs["labels"] / "labels.npy")
    squared = np.load(inputs["labels"] / "distances.npy")
    rows = index.rows("train")
    assert [row["cluster"] for row in table] == [0, 1, 2]
    for number, row in enumerate(table):
        members = rows[labels[rows] == number]
        assert row["train"] == len(members)
        nearest = members[np.argsort(squared[members], kind="stable")][:5]
        assert row["nearest_images"] == [index.key(one) for one in nearest]
        assert row["top_labels"][0]["name"] == row["majority"]
        assert row["radius_100"] == pytest.approx(np.sqrt(squared[members].max()))
        assert row["nearest_cluster"] != number
        assert index.key(3) not in row["nearest_images"]
    assert {row["majority"] for row in table} == {"blue", "green", NAME}


def test_the_pictures_show_the_images_of_the_clusters(source: FolderImages, inputs: Inputs) -> None:
    out = report(source, inputs)
    with Image.open(out / "sheet_1.jpg") as sheet:
        pixels = np.asarray(sheet)[:, 200:].reshape(-1, 3).astype(int)
    pixels = pixels[pixels.min(axis=1) < 180]
    for channel in range(3):  # a third of the images has each colour
        assert (pixels.argmax(axis=1) == channel).mean() == pytest.approx(1 / 3, abs=0.1)
    for name in ("sizes", "inertia"):
        with Image.open(out / f"{name}.png") as figure:
            assert len(figure.convert("RGB").getcolors(2**20)) > 10, name


def test_the_gallery_has_the_images_of_each_cluster(source: FolderImages, inputs: Inputs) -> None:
    table = pq.read_table(report(source, inputs, gallery=Gallery(columns=4, tile=16)) / "gallery.parquet")
    clusters = pq.read_table(inputs["out"] / "clusters.parquet").to_pylist()
    sizes = [clusters[row["cluster"]]["train"] for row in table.to_pylist()]
    assert sizes == sorted((cluster["train"] for cluster in clusters), reverse=True)
    for row in table.to_pylist():
        expected = {"red": 0, "green": 1, "blue": 2, NAME: 0}[clusters[row["cluster"]]["majority"]]
        for place in PLACES:
            with Image.open(io.BytesIO(row[place])) as strip:
                assert strip.size == (4 * 16, 16)
                tiles = np.asarray(strip.convert("RGB")).reshape(16, 4, 16, 3).mean(axis=(0, 2))
            assert (tiles.argmax(axis=1) == expected).all()


def test_a_gallery_of_some_clusters_decodes_each_image_once(
    source: FolderImages, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    image = FolderImages.image

    def noted(self: FolderImages, index: Index, row: int) -> Any:
        decoded.append(row)
        return image(self, index, row)

    monkeypatch.setattr(FolderImages, "image", noted)
    out = report(source, inputs, gallery=Gallery(clusters=2, columns=2))
    assert len(pq.read_table(out / "gallery.parquet")) == 2
    assert len(decoded) == len(set(decoded)) == 3 * 3 * 2, "the sheets show all three clusters"


def test_more_clusters_than_a_page_holds(
    source: FolderImages, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cf_lightning.stages.cluster_report.LINES", 2)
    out = report(source, inputs)
    assert sorted(file.name for file in out.glob("sheet_*.jpg")) == ["sheet_1.jpg", "sheet_2.jpg"]


def test_further_seeds_are_compared_two_by_two(
    source: FolderImages, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []
    fit = FaissKMeans.fit

    def noted(self: FaissKMeans, rows: Any, k: int, seed: int, job: Any) -> Any:
        seeds.append(seed)
        return fit(self, rows, k, seed, job)

    monkeypatch.setattr(FaissKMeans, "fit", noted)
    found = json.loads((report(source, inputs, stability=2) / "report.json").read_text())["stability"]
    assert seeds == found["seeds"] == [1, 2]
    assert len(found["ari_of_pairs"]) == 3
    assert found["ari"] == pytest.approx(np.mean(found["ari_of_pairs"]))
    assert found["ari"] > 0.5


def test_labels_of_other_images_are_refused(source: FolderImages, inputs: Inputs) -> None:
    index = Index.read(inputs["data"])
    Index(index.table.slice(1), "elsewhere").write(inputs["data"])
    with pytest.raises(StoreError, match="belongs to the samples with fingerprint"):
        report(source, inputs)


class Noting(CSVTracker):
    """A logger that has a place for everything."""

    _shown: list[Any] = PrivateAttr(default_factory=list)

    def show(
        self, numbers: dict[str, Any], tables: dict[str, list[dict[str, Any]]], pictures: dict[str, Path]
    ) -> None:
        self._shown.append((numbers, tables["clusters"], pictures))


def test_a_logger_gets_numbers_table_and_pictures(source: FolderImages, inputs: Inputs) -> None:
    tracker = Noting()
    report(source, inputs, logger=tracker)
    ((numbers, table, pictures),) = tracker._shown
    assert numbers["sizes"]["empty"] == 0
    assert set(pictures) == {"sizes", "inertia", "sheet_1"}
    assert len(table) == 3
    assert table[0]["train"] == max(row["train"] for row in table)
    assert isinstance(table[0]["nearest"], Image.Image)
    assert table[0]["majority"] in table[0]["top_labels"]


def test_a_logger_without_a_place_for_it_is_no_obstacle(source: FolderImages, inputs: Inputs) -> None:
    assert (report(source, inputs, logger=CSVTracker()) / "facts.json").is_file()
    assert (report(source, inputs, logger=WandbTracker()) / "facts.json").is_file()


def test_every_k_has_its_report_and_no_other_key_knows_of_it(
    compose: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    def keys(*overrides: str) -> dict[str, set[str]]:
        plan = Plan(Store(str(tmp_path / "store")))
        method(plan, compose("+experiment=demo", *overrides))
        plan.check()
        return {
            stage: {s.key for s in plan.steps if s.stage == stage}
            for stage in ("cluster_report", "cluster", "clusterfit")
        }

    plain, other = keys(), keys("cluster_report.sheets.clusters=3")
    assert len(plain["cluster_report"]) == 1
    assert plain["cluster_report"] != other["cluster_report"]
    assert (plain["cluster"], plain["clusterfit"]) == (other["cluster"], other["clusterfit"])
    several = keys("cluster.k=[8,64]")
    assert len(several["cluster_report"]) == 2
    assert plain["cluster_report"] < several["cluster_report"]
