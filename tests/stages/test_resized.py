"""Images that are decoded once: the same samples, from other bytes, in every stage that reads them."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cf_lightning.config import build
from cf_lightning.console import Console
from cf_lightning.data.folder import FolderImages, FolderVideos
from cf_lightning.data.image_source import ImageSource
from cf_lightning.data.index import Index
from cf_lightning.data.module import SampleDataModule
from cf_lightning.data.torchvision import TorchvisionImages
from cf_lightning.errors import ConfigError, DataError
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.plan import Plan
from cf_lightning.rows import read_rows, read_skipped
from cf_lightning.runtime import Runtime
from cf_lightning.stages.extract import Extract
from cf_lightning.stages.resized import Resize
from cf_lightning.store import Store
from conftest import Cli

COUNT, SHARD = 11, 4
VIEW = {"resize": 16, "crop": 16}
FOLDER = "cf_lightning.data.folder.FolderImages"


def write_images(root: Path) -> Path:
    """Image n is 40 + n by 20 pixels, of grey level 20 n; its class is n modulo 3."""
    for number in range(COUNT):
        file = root / str(number % 3) / f"{number * 7 % COUNT:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40 + number, 20), (number * 20,) * 3).save(file)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Resize, "SHARD", SHARD)


def number_of(image: torch.Tensor) -> int:
    return round(float(image.float().mean()) / 20)


def resize(source: ImageSource, out: Path, workers: int = 0, side: int = 16) -> Index:
    listing = out.with_suffix(".listing")
    for folder in (listing, out):
        folder.mkdir(exist_ok=True)
    source.index().write(listing)
    runtime = Runtime(accelerator="cpu", workers=workers)
    Resize(data=source, short_side=side, runtime=runtime).run(out, data=listing)
    return Index.read(out)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_keeps_its_row_and_its_content(root: Path, tmp_path: Path, workers: int) -> None:
    source = FolderImages(root=str(root), view=VIEW)  # type: ignore[arg-type]
    listing, index = source.index(), resize(source, tmp_path / "out", workers)
    assert index.table.equals(listing.table)
    assert index.fingerprint == listing.fingerprint
    shutil.rmtree(root)  # nothing of it is read any more
    for row in range(COUNT):
        image = source.image(index, row)
        number = number_of(image)
        assert index.table["labels"][row].as_py() == [str(number % 3)]
        assert index.key(row) == f"{number % 3}/{number * 7 % COUNT:02d}.png"
        assert tuple(image.shape) == (3, 16, 16 * (40 + number) // 20)
    assert sorted(file.name for file in (tmp_path / "out").glob("*.tar")) == [
        "shard-00000.tar",
        "shard-00001.tar",
        "shard-00002.tar",
    ]
    some = index.take(np.array([7, 2]))
    for row, old in enumerate((7, 2)):
        assert torch.equal(source.image(some, row), source.image(index, old))


def test_a_small_image_is_not_enlarged(root: Path, tmp_path: Path) -> None:
    source = FolderImages(root=str(root), view=VIEW)  # type: ignore[arg-type]
    index = resize(source, tmp_path / "out", side=200)
    assert {source.image(index, row).shape[1] for row in range(COUNT)} == {20}


def test_a_killed_attempt_keeps_its_whole_shards(root: Path, tmp_path: Path) -> None:
    source, out = FolderImages(root=str(root)), tmp_path / "out"
    resize(source, out)
    whole = {file.name: file.read_bytes() for file in out.iterdir()}
    kept = out / "shard-00001.tar"
    for file in out.iterdir():
        if file != kept:
            file.unlink()
    (out / "shard-00000.new").write_bytes(whole["shard-00000.tar"][:700])  # it was cut in this one
    seen: list[int] = []

    class Watched(FolderImages):
        def decode(self, index: Index, row: int) -> torch.Tensor:
            seen.append(row)
            return super().decode(index, row)

    resize(Watched(root=str(root)), out)
    assert seen == [row for row in range(COUNT) if row // SHARD != 1]
    assert {file.name: file.read_bytes() for file in out.iterdir()} == whole


@pytest.mark.parametrize("workers", [0, 1])
def test_an_undecodable_image_ends_the_run_by_its_name(root: Path, tmp_path: Path, workers: int) -> None:
    (root / "1" / "05.png").write_bytes(b"no image")
    (root / "1" / "05.png").rename(root / "1" / "broken.png")
    with pytest.raises(DataError, match=r"1/broken\.png cannot be decoded .*on_error=skip") as caught:
        resize(FolderImages(root=str(root)), tmp_path / "out", workers)
    assert "Traceback" not in str(caught.value)


def test_or_its_row_stays_and_is_skipped_by_all_that_read_it(root: Path, tmp_path: Path) -> None:
    (root / "1" / "broken.png").write_bytes(b"no image")
    source = FolderImages(root=str(root), on_error="skip", view=VIEW)  # type: ignore[arg-type]
    skipped = {}
    for name in ("direct", "cached"):
        folder, out = tmp_path / name, tmp_path / f"{name}_features"
        out.mkdir()
        if name == "cached":
            index = resize(source, folder)
        else:
            folder.mkdir()
            source.index().write(folder)
        extract = Extract(data=source, model=TinyTrunk(width=2), runtime=Runtime(accelerator="cpu"))
        extract.run(out, data=folder)
        assert len(read_rows(out, "features", source.index())) == COUNT + 1
        skipped[name] = (
            [index.key(row) for row in read_skipped(out)] if name == "cached" else read_skipped(out)
        )
    assert skipped["cached"] == ["1/broken.png"]
    assert [index.key(row) for row in skipped["direct"]] == ["1/broken.png"]
    assert json.loads((tmp_path / "cached" / "facts.json").read_text())["skipped"] == ["1/broken.png"]
    strict = source.model_copy(update={"on_error": "fail"})
    row = index.table["key"].to_pylist().index("1/broken.png")
    with pytest.raises(DataError, match=r"1/broken\.png cannot be decoded .*when the images were resized"):
        strict.image(index, row)


def test_a_lost_shard_is_no_undecodable_image(root: Path, tmp_path: Path) -> None:
    source = FolderImages(root=str(root), on_error="skip", view=VIEW)  # type: ignore[arg-type]
    index = resize(source, tmp_path / "out")
    (tmp_path / "out" / "shard-00001.tar").unlink()
    module = SampleDataModule(source, index=index, batch_size=COUNT)
    with pytest.raises(OSError, match=r"shard-00001\.tar"):
        next(iter(module.predict_dataloader()))


def test_a_source_that_decodes_by_itself_is_read_from_the_cache(tmp_path: Path) -> None:
    raw = tmp_path / "set" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, numbers in (("train", range(8)), ("t10k", range(8, COUNT))):
        images = np.stack([np.full((28, 28), number * 20, np.uint8) for number in numbers])
        for kind, array in (("images-idx3", images), ("labels-idx1", np.array(numbers, np.uint8) % 10)):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4) for size in array.shape)
            (raw / f"{part}-{kind}-ubyte").write_bytes(head + array.tobytes())
    source = TorchvisionImages(name="FashionMNIST", root=str(tmp_path / "set"), view=VIEW)  # type: ignore[arg-type]
    index = resize(source, tmp_path / "out")
    shutil.rmtree(raw)
    fresh = TorchvisionImages(name="FashionMNIST", root=str(tmp_path / "set"))
    assert [number_of(fresh.image(index, row)) for row in range(COUNT)] == list(range(COUNT))
    assert fresh.image(index, 3).shape == (3, 16, 16)


def planned(tmp_path: Path, root: Path, cache: dict[str, int] | None, **view: int) -> Plan:
    node = {"_target_": FOLDER, "root": str(root), "view": VIEW | view, "cache": cache}
    plan = Plan(Store(str(tmp_path / "store")), {"accelerator": "cpu"})
    data = plan.index(node, "data")
    extract = {
        "_target_": "cf_lightning.stages.extract.Extract",
        "model": {"_target_": "cf_lightning.models.tiny.TinyTrunk", "width": 2},
        "data": node,
    }
    plan.add("extract", extract, "features", data=data)
    return plan


def test_keys_follow_the_settings_and_nothing_else(root: Path, tmp_path: Path) -> None:
    def keys(cache: dict[str, int] | None, folder: Path = root, **view: int) -> tuple[str, ...]:
        return tuple(step.key for step in planned(tmp_path, folder, cache, **view).steps[1:])

    usual = keys({"short_side": 20})
    assert len(keys(None)) == 1
    assert usual == keys({"short_side": 20, "quality": 95})
    assert usual == keys({"short_side": 20}, write_images(tmp_path / "moved"))
    for other in (keys({"short_side": 21}), keys({"short_side": 20, "quality": 94})):
        assert other[0] != usual[0]
        assert other[1] != usual[1]
    of_another_view = keys({"short_side": 20}, crop=12)
    assert of_another_view[0] == usual[0], "the images are the same for every view"
    assert of_another_view[1] != usual[1]
    assert len({keys(None)[0], usual[1], of_another_view[1]}) == 3


def test_a_plan_makes_the_images_once_for_all_views(root: Path, tmp_path: Path) -> None:
    console = Console()
    for crop, states in ((16, [False] * 3), (12, [True, True, False]), (16, [True] * 3)):
        plan = planned(tmp_path, root, {"short_side": 16}, crop=crop)
        plan.check()
        assert [step.cached for step in plan.steps] == states
        plan.run(console)
    features = [np.load(file) for file in (tmp_path / "store" / "extract").glob("*/features.npy")]
    assert len(features) == 2
    assert not np.array_equal(*features)


def test_settings_that_cannot_work_are_refused(root: Path) -> None:
    def node(**more: Any) -> dict[str, Any]:
        return {"_target_": FOLDER, "root": str(root), "view": VIEW, **more}

    with pytest.raises(ConfigError, match=r"data\.cache=.*short_side=15 is less than view\.resize=16"):
        build(node(cache={"short_side": 15}), "data")
    with pytest.raises(ConfigError, match=r"data\.cache\.quality=101"):
        build(node(cache={"short_side": 16, "quality": 101}), "data")
    videos = f"{FolderVideos.__module__}.FolderVideos"
    with pytest.raises(ConfigError, match=r"data\.cache=.*only images .* no videos"):
        build({"_target_": videos, "root": str(root), "cache": {"short_side": 16}}, "data")


@pytest.mark.slow
def test_the_whole_chain_reads_resized_images(
    cli: Cli, tmp_path: Path, image_folder: Callable[..., Path]
) -> None:
    root = image_folder(per_class=30)
    (root / "red" / "003.png").write_bytes(b"no image")
    data = ("data=folder", f"data.root={root}", "data.on_error=skip", "pretrain=supervised")
    small = ("pretrain.batch_size=16", "clusterfit.batch_size=16", "cluster.k=4", "runtime.accelerator=cpu")
    epochs = ("pretrain.epochs=1", "clusterfit.epochs=1", "contestant=[student]", "transfer=[knn]")
    cached = (
        "data.cache={short_side:64,quality:90}",
        "target=[species]",
        "+target.species.cache={short_side:64}",
    )
    overrides = ("+experiment=demo", *data, *small, *epochs, *cached)
    refused = cli(*overrides, "pretrain.view={_target_:cf_lightning.data.views.View,resize:65,crop:32}")
    assert re.search(r"short_side=64 is less than view\.resize=65", refused.stderr), refused.stderr
    done = cli(*overrides)
    assert done.returncode == 0, done.stderr
    store = tmp_path / "store"
    assert len(list((store / "resized").glob("*/manifest.json"))) == 2
    for stage in ("pretrain", "extract", "cluster", "clusterfit", "target_features"):
        manifest = json.loads(next((store / stage).glob("*/manifest.json")).read_text())
        assert (store / "resized" / manifest["inputs"]["data"] / "places.npy").exists(), stage
    extracted = json.loads(next((store / "extract").glob("*/manifest.json")).read_text())
    assert extracted["facts"]["skipped"] == ["red/003.png"]
    again = cli(*overrides, run="again")
    assert set(re.findall(r"^\w+ +(ran|cached) +[\d.]+ s", again.stdout, re.MULTILINE)) == {"cached"}
