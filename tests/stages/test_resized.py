"""Images that are decoded once: the same samples, from other bytes, in every stage that reads them."""

import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from cf_lightning.config import build
from cf_lightning.console import Console
from cf_lightning.data.folder import FolderImages, FolderVideos
from cf_lightning.data.image_source import ImageSource
from cf_lightning.data.index import Index
from cf_lightning.data.module import SampleDataModule
from cf_lightning.data.picture import Picture
from cf_lightning.data.torchvision import TorchvisionImages
from cf_lightning.data.views import View
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


def resize(source: ImageSource, out: Path, workers: int = 0, side: int = 16, **settings: Any) -> Index:
    listing = out.with_suffix(".listing")
    for folder in (listing, out):
        folder.mkdir(exist_ok=True)
    source.index().write(listing)
    runtime = Runtime(accelerator="cpu", workers=workers)
    Resize(data=source, short_side=side, runtime=runtime, **settings).run(out, data=listing)
    return Index.read(out)


@pytest.mark.parametrize(("workers", "encoding"), [(0, "jpeg"), (2, "jpeg"), (0, "raw"), (2, "raw")])
def test_every_image_keeps_its_row_and_its_content(
    root: Path, tmp_path: Path, workers: int, encoding: str
) -> None:
    source = FolderImages(root=str(root), view=VIEW)  # type: ignore[arg-type]
    listing, index = source.index(), resize(source, tmp_path / "out", workers, encoding=encoding)
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


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_a_killed_attempt_keeps_its_whole_shards(root: Path, tmp_path: Path, encoding: str) -> None:
    source, out = FolderImages(root=str(root)), tmp_path / "out"
    resize(source, out, encoding=encoding)
    whole = {file.name: file.read_bytes() for file in out.iterdir()}
    kept = out / "shard-00001.tar"
    for file in out.iterdir():
        if file != kept:
            file.unlink()
    (out / "shard-00000.new").write_bytes(whole["shard-00000.tar"][:700])  # it was cut in this one
    seen: list[int] = []

    class Watched(FolderImages):
        def decode(self, index: Index, row: int) -> Picture:
            seen.append(row)
            return super().decode(index, row)

    resize(Watched(root=str(root)), out, encoding=encoding)
    assert seen == [row for row in range(COUNT) if row // SHARD != 1]
    assert {file.name: file.read_bytes() for file in out.iterdir()} == whole


@pytest.mark.parametrize("workers", [0, 1])
def test_an_undecodable_image_ends_the_run_by_its_name(root: Path, tmp_path: Path, workers: int) -> None:
    (root / "1" / "05.png").write_bytes(b"no image")
    (root / "1" / "05.png").rename(root / "1" / "broken.png")
    with pytest.raises(DataError, match=r"1/broken\.png cannot be decoded .*on_error=skip") as caught:
        resize(FolderImages(root=str(root)), tmp_path / "out", workers)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_or_its_row_stays_and_is_skipped_by_all_that_read_it(
    root: Path, tmp_path: Path, encoding: str
) -> None:
    (root / "1" / "broken.png").write_bytes(b"no image")
    source = FolderImages(root=str(root), on_error="skip", view=VIEW)  # type: ignore[arg-type]
    skipped = {}
    for name in ("direct", "cached"):
        folder, out = tmp_path / name, tmp_path / f"{name}_features"
        out.mkdir()
        if name == "cached":
            index = resize(source, folder, encoding=encoding)
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


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_a_lost_shard_is_no_undecodable_image(root: Path, tmp_path: Path, encoding: str) -> None:
    source = FolderImages(root=str(root), on_error="skip", view=VIEW)  # type: ignore[arg-type]
    index = resize(source, tmp_path / "out", encoding=encoding)
    (tmp_path / "out" / "shard-00001.tar").unlink()
    module = SampleDataModule(source, index=index, batch_size=COUNT)
    with pytest.raises(OSError, match=r"shard-00001\.tar"):
        next(iter(module.predict_dataloader()))


def write_noise(root: Path, sizes: list[tuple[int, int]]) -> FolderImages:
    """JPEGs of these heights and widths."""
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate(sizes):
        file = root / f"{number:02d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8))
        noise.resize((width, height)).save(file, quality=90)
    return FolderImages(root=str(root), view=View(resize=24, crop=16))


def test_raw_pixels_give_the_features_of_the_images_themselves(tmp_path: Path) -> None:
    source = write_noise(tmp_path / "images", [(24 + n % 3 * 8, 64 - n % 2 * 8) for n in range(COUNT)])
    source.index().write(tmp_path)
    resize(source, tmp_path / "raw", side=64, encoding="raw")
    resize(source, tmp_path / "jpeg", side=64)
    features = []
    for folder in (tmp_path, tmp_path / "raw", tmp_path / "jpeg"):
        out = tmp_path / f"features_{folder.name}"
        out.mkdir()
        extract = Extract(data=source, model=TinyTrunk(width=2), runtime=Runtime(accelerator="cpu"))
        extract.run(out, data=folder)
        features.append(np.load(out / "features.npy"))
    np.testing.assert_array_equal(features[1], features[0])
    assert not np.array_equal(features[2], features[0]), "JPEGs lose something, or this test shows nothing"


def test_raw_pixels_are_mapped_and_not_copied(root: Path, tmp_path: Path) -> None:
    source = FolderImages(root=str(root), view=VIEW)  # type: ignore[arg-type]
    index = resize(source, tmp_path / "out", encoding="raw")
    before = (tmp_path / "out" / "shard-00000.tar").read_bytes()
    image, again = source.image(index, 1), source.image(index, 1)
    assert image.data_ptr() == again.data_ptr()
    image.fill_(7)
    assert (tmp_path / "out" / "shard-00000.tar").read_bytes() == before
    with tarfile.open(tmp_path / "out" / "shard-00000.tar") as tar:
        member = tar.extractfile("000000002.npy")
        assert member is not None
        pixels = np.load(io.BytesIO(member.read()))
    np.testing.assert_array_equal(pixels.transpose(2, 0, 1), source.image(index, 2).numpy())


def test_large_photos_are_reduced_while_they_are_decoded(tmp_path: Path) -> None:
    source = write_noise(tmp_path / "images", [(400, 600), (600, 400)])
    images = {}
    for gap in (2.0, None):
        index = resize(source, tmp_path / str(gap), side=64, encoding="raw", reducing_gap=gap)
        images[gap] = [source.image(index, row).int() for row in range(2)]
    for reduced, whole in zip(images[2.0], images[None], strict=True):
        assert reduced.shape == whole.shape
        assert 0 < float((reduced - whole).abs().float().mean()) < 2


@pytest.mark.parametrize(("encoding", "tolerance"), [("raw", 0.1), ("jpeg", 0.6)])
def test_a_plan_says_what_the_images_will_take(tmp_path: Path, encoding: str, tolerance: float) -> None:
    source = write_noise(tmp_path / "images", [(300, 400)] * 7 + [(200, 160)] * 4)
    (tmp_path / "images" / "00.jpg").write_bytes(b"no image")
    source = source.model_copy(update={"on_error": "skip"})
    resize(source, tmp_path / "out", side=200, encoding=encoding)
    told = Resize(data=source, short_side=200, encoding=encoding).disk_bytes(data=source.index())  # type: ignore[arg-type]
    real = sum(file.stat().st_size for file in (tmp_path / "out").glob("*.tar"))
    assert told == pytest.approx(real, rel=tolerance)
    elsewhere = TorchvisionImages(name="FashionMNIST", root=str(tmp_path))
    listing = source.index()
    unknown = Index(listing.table.set_column(4, "size", pa.nulls(len(listing), pa.int64())), "elsewhere")
    assert Resize(data=elsewhere, short_side=20).disk_bytes(data=unknown) is None


def test_decoding_takes_every_core_of_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, decoders in ((1, 0), (6, 6)):
        monkeypatch.setattr("cf_lightning.runtime._cores", lambda cores=cores: cores)
        assert Runtime(accelerator="cpu").num_decoders() == decoders
        assert Runtime(accelerator="cpu").num_workers() == 0
        assert Runtime(accelerator="cpu", workers=3).num_decoders() == 3


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


def planned(tmp_path: Path, root: Path, cache: dict[str, Any] | None, **view: int) -> Plan:
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
    def keys(cache: dict[str, Any] | None, folder: Path = root, **view: int) -> tuple[str, ...]:
        return tuple(step.key for step in planned(tmp_path, folder, cache, **view).steps[1:])

    usual = keys({"short_side": 20})
    assert len(keys(None)) == 1
    assert usual == keys({"short_side": 20, "quality": 95})
    assert usual == keys({"short_side": 20}, write_images(tmp_path / "moved"))
    others: list[dict[str, Any]] = [{"quality": 94}, {"encoding": "raw"}, {"reducing_gap": None}]
    for other in (keys({"short_side": 21}), *(keys({"short_side": 20, **more}) for more in others)):
        assert other[0] != usual[0]
        assert other[1] != usual[1]
    of_another_view = keys({"short_side": 20}, crop=12)
    assert of_another_view[0] == usual[0], "the images are the same for every view"
    assert of_another_view[1] != usual[1]
    assert len({keys(None)[0], usual[1], of_another_view[1]}) == 3
    assert keys(None)[0] != keys(None, reducing_gap=4)[0]


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
    with pytest.raises(ConfigError, match=r"data\.cache\.encoding=png: .*'jpeg' or 'raw'"):
        build(node(cache={"short_side": 16, "encoding": "png"}), "data")
    with pytest.raises(ConfigError, match=r"data\.cache\.quality=90: .*encoding=raw .* no quality"):
        build(node(cache={"short_side": 16, "encoding": "raw", "quality": 90}), "data")
    with pytest.raises(ConfigError, match=r"data\.cache\.reducing_gap=0\.5"):
        build(node(cache={"short_side": 16, "reducing_gap": 0.5}), "data")
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
        assert manifest["inputs"]["data"].startswith("resized/"), stage
        assert (store / manifest["inputs"]["data"] / "places.npy").exists(), stage
    extracted = json.loads(next((store / "extract").glob("*/manifest.json")).read_text())
    assert extracted["facts"]["skipped"] == ["red/003.png"]
    again = cli(*overrides, run="again")
    assert set(re.findall(r"^\w+ +(ran|cached) +[\d.]+ s", again.stdout, re.MULTILINE)) == {"cached"}
