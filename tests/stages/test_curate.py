"""A balanced subset: how many of each cluster, which, and the manifest that another run reads."""

import io
import json
import shlex
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cf_lightning.config import build
from cf_lightning.data.folder import FolderImages, FolderVideos
from cf_lightning.data.image_source import ImageSource
from cf_lightning.data.index import Index
from cf_lightning.data.manifest import ManifestImages, ManifestVideos
from cf_lightning.data.shards import ShardImages
from cf_lightning.errors import ConfigError, DataError
from cf_lightning.pipeline import method
from cf_lightning.plan import Plan
from cf_lightning.rows import describe_rows
from cf_lightning.stages.curate import Curate, first_of_each, quota, usage
from cf_lightning.store import Store
from indexes import index

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("sizes", "total", "level", "expected"),
    [
        ([10, 3, 1], 8, 4, [4, 3, 1]),
        ([10, 3, 1], 3, 1, [1, 1, 1]),
        ([10, 3, 1], 14, 10, [10, 3, 1]),
        ([5, 0, 5], 6, 3, [3, 0, 3]),
        ([7], 2, 2, [2]),
    ],
)
def test_quotas_by_hand(sizes: list[int], total: int, level: int, expected: list[int]) -> None:
    found, quotas = quota(np.array(sizes), total, np.random.default_rng(0))
    assert (found, quotas.tolist()) == (level, expected)


def test_what_is_left_over_goes_to_clusters_that_have_more() -> None:
    several = {tuple(quota(np.array([9, 9, 1, 9]), 6, np.random.default_rng(s))[1]) for s in range(20)}
    assert several == {(2, 2, 1, 1), (2, 1, 1, 2), (1, 2, 1, 2)}


def test_no_quotas_are_more_even_and_more_give_each_cluster_at_least_as_many() -> None:
    for trial in range(30):
        sizes = RNG.integers(0, 30, 12)
        before = np.zeros(12, np.int64)
        for total in range(1, sizes.sum() + 1):
            level, quotas = quota(sizes, total, np.random.default_rng(trial))
            assert quotas.sum() == total
            assert (quotas <= sizes).all()
            assert (quotas >= np.minimum(sizes, level)).all()
            assert quotas.max() <= level + 1
            assert (quotas >= before).all()
            before = quotas


def test_the_first_of_each_cluster_by_hand() -> None:
    rows, labels = np.array([7, 3, 9, 1, 4]), np.array([1, 0, 1, 1, 0])
    assert first_of_each(rows, labels, np.array([1, 2, 0])).tolist() == [3, 7, 9]


def clustered(folder: Path, data: Index, labels: np.ndarray, distances: np.ndarray | None = None) -> Any:
    for name in ("data", "labels"):
        (folder / name).mkdir(parents=True)
    data.write(folder / "data")
    np.save(folder / "labels" / "labels.npy", labels)
    far = np.zeros(len(labels)) if distances is None else distances
    np.save(folder / "labels" / "distances.npy", far.astype(np.float32))
    describe_rows(folder / "labels", "labels", data, k=int(labels.max()) + 1)
    return {"data": folder / "data", "labels": folder / "labels"}


def chosen(out: Path, inputs: dict[str, Path], root: Path, **settings: Any) -> Index:
    """The index of a run on the manifest."""
    out.mkdir()
    Curate(**settings).run(out, **inputs)
    return ManifestImages(root=str(root), manifest=str(out / "manifest.parquet"), holdout=0).index()


def entries(data: Index) -> dict[str, dict[str, Any]]:
    return {entry["key"]: entry for entry in data.table.to_pylist()}


def with_spaces(root: Path) -> ImageSource:
    """60 images in folders whose names are several words."""
    for number in range(60):
        split, name = ("train", "val", "train", "test")[number % 4], ("sea lion", "a, b")[number % 2]
        file = root / split / name / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number,) * 3).save(file)
    return FolderImages(root=str(root))


def tagged_shards(root: Path) -> ImageSource:
    """60 images in two shards, with tags that are several words."""
    root.mkdir()
    for shard in range(2):
        with tarfile.open(root / f"{shard}.tar", "w") as archive:
            for number in range(30):
                picture = io.BytesIO()
                Image.new("RGB", (4, 4), (30 * shard + number,) * 3).save(picture, "png")
                about = json.dumps({"label": ["sea lion"], "tags": ["at the sea", f"t{number}"]}).encode()
                for suffix, content in (("png", picture.getvalue()), ("json", about)):
                    info = tarfile.TarInfo(f"{number:02d}.{suffix}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    return ShardImages(root=str(root), holdout=0.3)


@pytest.mark.parametrize("make", [with_spaces, tagged_shards])
def test_a_run_on_the_manifest_sees_the_same_samples(
    make: Callable[[Path], ImageSource], tmp_path: Path
) -> None:
    source = make(tmp_path / "pictures")
    data = source.index()
    labels = np.arange(60) % 7 % 4
    train, known = data.rows("train"), entries(data)
    size = len(train) // 2
    inputs = clustered(tmp_path, data, labels)
    found = chosen(tmp_path / "out", inputs, tmp_path / "pictures", size=size)
    assert all(known[key] == entry for key, entry in entries(found).items())
    assert len(found.rows("train")) == size
    assert {found.key(row) for row in found.rows("val", "test")} == {
        data.key(row) for row in data.rows("val", "test")
    }
    reader = ManifestImages(root=source.root, manifest=str(tmp_path / "out" / "manifest.parquet"))
    place = {data.key(row): row for row in range(60)}
    for row in range(len(found)):
        assert reader.image(found, row).equal(source.image(data, place[found.key(row)]))
    cluster_of = [labels[place[found.key(row)]] for row in found.rows("train")]
    level, quotas = quota(np.bincount(labels[train]), size, np.random.default_rng(0))
    assert sorted(np.bincount(cluster_of, minlength=4)) == sorted(quotas)
    facts = json.loads((tmp_path / "out" / "facts.json").read_text())
    assert (facts["train"], facts["level"], facts["held_out"]) == (size, level, 60 - len(train))
    assert facts["evenness_before"] < facts["evenness_after"] <= 1


def test_the_seed_decides_and_a_smaller_subset_is_part_of_a_larger(tmp_path: Path) -> None:
    source = with_spaces(tmp_path / "pictures")
    inputs = clustered(tmp_path, source.index(), np.arange(60) % 5)

    def keys(name: str, **settings: Any) -> set[str]:
        return set(entries(chosen(tmp_path / name, inputs, tmp_path / "pictures", **settings)))

    small = keys("small", size=10)
    assert keys("again", size=10) == small
    assert keys("other", size=10, seed=1) != small
    assert small < keys("larger", size=13)


def test_nearest_to_the_centroid_first_and_never_what_could_not_be_decoded(tmp_path: Path) -> None:
    source = with_spaces(tmp_path / "pictures")
    data = source.index()
    train = data.rows("train")
    labels, distances = np.zeros(60, np.int64), np.full(60, 9.0)
    distances[train[[3, 8, 20]]] = [1, 0, 2]
    labels[train[8]] = -1
    found = chosen(
        tmp_path / "out",
        clustered(tmp_path, data, labels, distances),
        tmp_path / "pictures",
        size=2,
        order="centroid",
    )
    assert [found.key(row) for row in found.rows("train")] == [data.key(row) for row in train[[3, 20]]]
    inputs = {"data": tmp_path / "data", "labels": tmp_path / "labels"}
    with pytest.raises(DataError, match=r"curate\.size=30: 29 training samples could be decoded"):
        Curate(size=30).run(tmp_path / "out", **inputs)


def test_what_is_refused() -> None:
    data = index([[]] * 10, ["train"] * 8 + ["val"] * 2)
    Curate(size=8).check(data=data)
    with pytest.raises(ConfigError, match=r"curate\.size=9: images has 8 training samples; .* up to that"):
        Curate(size=9).check(data=data)
    for size in (0, -1):
        with pytest.raises(ConfigError, match=rf"curate\.size={size}: .*greater than or equal to 1"):
            build({"_target_": "cf_lightning.stages.curate.Curate", "size": size}, "curate")
    column = data.table.schema.get_field_index("size")
    no_files = Index(data.table.set_column(column, "size", [[None] * 10]), "CIFAR10")
    with pytest.raises(ConfigError, match=r"0\.jpg of CIFAR10 is no file .*data=shards"):
        Curate(size=8).check(data=no_files)


def test_the_line_that_uses_it_survives_a_shell() -> None:
    words = shlex.split(usage(FolderImages(root="my pictures"), Path("/store/curate/key")))
    assert words[:2] == ["data=manifest", "data.root=my pictures"]
    assert usage(FolderVideos(root="clips"), Path("/store")).startswith("data=video_manifest data.root=clips")
    assert words[2:] == ["data.manifest=/store/curate/key/manifest.parquet", "data.holdout=0"]


def test_parts_of_videos_stay_parts(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    root.mkdir()
    (root / "a.mp4").write_bytes(b"listed, not decoded")
    lines = ["path,start,end,label", "a.mp4,,,x", "a.mp4,0,1.5,x", "a.mp4,0.1,0.3,y", "a.mp4,2,,y"]
    (root / "index.csv").write_text("\n".join(lines))
    data = ManifestVideos(root=str(root), manifest="index.csv", holdout=0).index()
    assert sorted(entries(data)) == ["a.mp4", "a.mp4#t=,1.5", "a.mp4#t=0.1,0.3", "a.mp4#t=2"]
    out = tmp_path / "out"
    out.mkdir()
    Curate(size=4).run(out, **clustered(tmp_path, data, np.array([0, 0, 1, 1])))
    again = ManifestVideos(root=str(root), manifest=str(out / "manifest.parquet"), holdout=0).index()
    assert again.fingerprint == data.fingerprint


def test_each_clustering_gives_a_subset_and_the_student_stays_as_it_is(
    compose: Callable[..., dict[str, Any]], image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    run = ("+experiment=demo", "data=folder", "pretrain=supervised", "cluster.k=[4,6]")
    places = (f"data.root={image_folder(per_class=30)}", "clusterfit.batch_size=8", "pretrain.batch_size=8")

    def planned(*overrides: str) -> tuple[Plan, str]:
        plan = Plan(Store(str(tmp_path / "store")))
        return plan, method(plan, compose(*run, *places, *overrides)).student.key

    plan, student = planned("curate=balanced", "curate.size=20")
    plan.check()
    steps = [step for step in plan.steps if step.stage == "curate"]
    assert [step.inputs["labels"].node["k"] for step in steps] == [4, 6]
    assert all(set(step.inputs) == {"data", "labels"} for step in steps)
    assert planned()[1] == student
    too_many, _ = planned("curate=balanced", "curate.size=91")
    with pytest.raises(ConfigError, match=r"^curate \(.*k=4\): curate\.size=91: "):
        too_many.check()
