"""Shards below a URL: the same samples as from a folder, and what a dropped connection does."""

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from cf_lightning.config import build
from cf_lightning.data import remote
from cf_lightning.data.folder import FolderImages
from cf_lightning.data.module import SampleDataModule
from cf_lightning.data.shards import ShardImages
from cf_lightning.data.torchvision import TorchvisionImages
from cf_lightning.errors import ConfigError, DataError
from cf_lightning.plan import Plan
from cf_lightning.store import Store
from conftest import Cli

COUNT = 6


class Bucket(LocalFileSystem):  # type: ignore[misc]
    """The local file system under the name of another one; its next ``drops`` reads fail."""

    protocol = "bucket"
    cachable = False
    drops: ClassVar[int] = 0
    short: ClassVar[bool] = False
    reads: ClassVar[int] = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.made_by = os.getpid()

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **more: Any) -> Any:
        assert self.made_by == os.getpid(), "a handle was taken through a fork"
        Bucket.reads += 1
        if Bucket.drops:
            Bucket.drops -= 1
            if Bucket.short:
                return super().cat_file(path, start, end, **more)[:-1]
            raise ConnectionResetError("the peer has hung up")
        return super().cat_file(path, start, end, **more)


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A bucket that answers, and the seconds that would have been waited."""
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    waited: list[float] = []
    monkeypatch.setattr(remote.time, "sleep", waited.append)
    monkeypatch.setattr(Bucket, "drops", 0)
    monkeypatch.setattr(Bucket, "short", False)
    yield waited
    remote._filesystem.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards; image n is of grey level 40 n and of class n."""
    for shard in range(2):
        path = tmp_path / "shards" / "train" / f"{shard}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as archive:
            for number in range(shard, COUNT, 2):
                buffer = io.BytesIO()
                Image.new("RGB", (30, 20), (number * 40,) * 3).save(buffer, "PNG")
                parts = {"png": buffer.getvalue(), "cls": b"%d" % number}
                if number == 3:
                    parts["json"] = json.dumps({"tags": "a b"}).encode()
                for suffix, content in parts.items():
                    member = tarfile.TarInfo(f"{number}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return tmp_path / "shards"


def source(folder: Path, **more: Any) -> ShardImages:
    return ShardImages(root=f"bucket://{folder}", holdout=0.0, view={"resize": 20, "crop": 20}, **more)


def test_a_url_lists_and_reads_what_the_folder_does(folder: Path) -> None:
    there, here = source(folder), ShardImages(root=str(folder), holdout=0.0)
    index = there.index()
    assert index.table.equals(here.index().table), "its place is no part of the identity"
    assert Bucket.reads, "it was read in another way"
    for row in range(COUNT):
        assert there.encoded(index, row) == here.encoded(index, row)
        number = round(float(there.image(index, row).float().mean()) / 40)
        assert index.table["labels"][row].as_py() == [str(number)]
    with open(folder / "train" / "2.tar", "wb") as file:
        file.write((folder / "train" / "0.tar").read_bytes())
    assert len(there.index()) == COUNT + COUNT // 2, "what is there now is listed, not what was"


def test_each_loader_process_has_a_connection_of_its_own(folder: Path) -> None:
    there = source(folder)
    module = SampleDataModule(there, index=there.index(), batch_size=3, workers=2)
    rows = [row for _, _, index in module.predict_dataloader() for row in index.tolist()]
    assert rows == list(range(COUNT))


@pytest.mark.parametrize("short", [False, True])
def test_a_dropped_connection_is_tried_again_after_longer_and_longer_waits(
    folder: Path, waits: list[float], short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = source(folder)
    index = there.index()
    monkeypatch.setattr(Bucket, "short", short)
    monkeypatch.setattr(Bucket, "drops", remote.ATTEMPTS - 1)
    assert there.encoded(index, 0) == ShardImages(root=str(folder)).encoded(index, 0)
    assert waits == [remote.WAIT * 2**n for n in range(remote.ATTEMPTS - 1)]


def test_then_it_is_an_error_and_no_undecodable_image(
    folder: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = source(folder, on_error="skip")
    index = there.index()
    monkeypatch.setattr(Bucket, "drops", 10**6)
    lost = rf"root=bucket://{folder}: train/0\.tar .*5 attempts .*hung up.*same command"
    with pytest.raises(DataError, match=lost):
        next(iter(SampleDataModule(there, index=index, batch_size=2).predict_dataloader()))
    node = {"_target_": "cf_lightning.data.shards.ShardImages", "root": there.root}
    with pytest.raises(DataError, match=rf"data: root=bucket://{folder}: train/.\.tar .*hung up"):
        Plan(Store("unused")).index(node, "data")
    waits.clear()
    (folder / "train" / "0.tar").unlink()
    monkeypatch.setattr(Bucket, "drops", 0)
    with pytest.raises(DataError, match=r"train/0\.tar cannot be read \(FileNotFoundError"):
        there.image(index, 0)
    assert not waits, "what is not there does not come back"


def test_a_cut_shard_is_refused(folder: Path) -> None:
    path = folder / "train" / "1.tar"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"bucket://.*train/1\.tar: not a complete, uncompressed tar"):
        source(folder).index()
    with pytest.raises(DataError, match=r"no \*\.tar file below it"):
        source(folder / "nothing").index()


def test_a_lost_connection_leaves_what_is_done_to_the_next_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cf_lightning.console import Console
    from cf_lightning.stages.resized import Resize

    monkeypatch.setattr(Resize, "SHARD", 2)

    def planned() -> Plan:
        target = "cf_lightning.data.shards.ShardImages"
        view = {"resize": 20, "crop": 20}
        node = {"_target_": target, "root": f"bucket://{folder}", "view": view, "cache": {"short_side": 20}}
        plan = Plan(Store(str(tmp_path / "store")), {"accelerator": "cpu", "workers": 0})
        plan.index(node, "data")
        plan.check()
        return plan

    first, whole = planned(), Bucket.cat_file
    left = [3]

    def cat_file(self: Bucket, *args: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise ConnectionResetError("the peer has hung up")
        return whole(self, *args, **more)

    monkeypatch.setattr(Bucket, "cat_file", cat_file)
    with pytest.raises(DataError, match="hung up"):
        first.run(Console())
    assert not list((tmp_path / "store" / "resized").glob("*/manifest.json"))
    monkeypatch.setattr(Bucket, "cat_file", whole)
    again = planned()
    monkeypatch.setattr(Bucket, "reads", 0)
    again.run(Console())
    assert Bucket.reads == COUNT - 2, "the shard of two images that was whole is kept"
    assert [step.cached for step in planned().steps] == [True, True]


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("s3://bucket/prefix", "s3fs"),
        ("gs://bucket/prefix", "gcsfs"),
        ("nothing://bucket", "nothing"),
    ],
)
def test_a_store_without_its_package_says_what_to_install(root: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"root={root}: .*{message}"):
        ShardImages(root=root).index()


def test_other_sources_name_the_one_that_reads_urls() -> None:
    for other in (FolderImages(root="s3://b/c"), TorchvisionImages(name="CIFAR10", root="s3://b/c")):
        with pytest.raises(DataError, match=r"root=s3://b/c: only tar shards .*data=shards"):
            other.index()
    download = TorchvisionImages(name="CIFAR10", root="s3://b/c", download=True)
    with pytest.raises(DataError, match="data=shards"):
        download.index()


@pytest.mark.parametrize("url", ["s3://me:se/cret@bucket/a", "https://me:secret@host:9000/a"])
def test_a_password_is_refused_and_not_repeated(url: str) -> None:
    for there in (ShardImages(root=url), FolderImages(root=url)):
        with pytest.raises(ConfigError, match=r"\*\*\*@.*credentials") as caught:
            there.index()
        assert "cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["s3://bucket/a:b", "abfs://box@account.dfs.net/a", "http://host:9000/a@b"])
def test_what_is_no_password_passes(url: str) -> None:
    remote.refuse_password(url)


def test_a_password_on_the_command_line_is_written_nowhere(cli: Cli, tmp_path: Path) -> None:
    done = cli("+experiment=demo", "data=shards", "data.root=s3://me:secret@bucket/a")
    assert done.returncode == 1
    assert "credentials" in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(b"secret" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_nothing_heavy_is_imported_for_a_folder() -> None:
    code = "import sys, cf_lightning.data.shards; sys.exit('fsspec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_url_is_a_setting_like_another(folder: Path) -> None:
    built = build({"_target_": "cf_lightning.data.shards.ShardImages", "root": f"bucket://{folder}"}, "data")
    assert len(built.index()) == COUNT
