"""A store moves by tar files: what arrives is what left, and nothing else is let in."""

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cf_lightning.errors import StoreError
from cf_lightning.pipeline import run
from cf_lightning.plan import Plan
from cf_lightning.store import Store, verified
from stores import SMALL, chain, command, publish, write_run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "other"))


def contents(store: Store) -> dict[str, bytes]:
    files = [file for file in store.root.glob("[!.]*/*/**/*") if file.is_file()]
    return {str(file.relative_to(store.root)): file.read_bytes() for file in files}


def names(store: Store) -> list[str]:
    return [f"{stage}/{key}" for stage, key in store.finished()]


def test_an_artifact_takes_along_all_that_it_was_made_of(
    store: Store, other: Store, tmp_path: Path, capsys: Capture
) -> None:
    chain(store)
    publish(store, "transfer/ee0")
    file = tmp_path / "moved.tar"
    assert command(store, "export", file, "extract/c", capsys=capsys) == (0, f"wrote {file}: 3 artifacts\n")
    with tarfile.open(file) as tar:
        assert tar.getnames()[:3] == [
            f"index/aa0/{one}" for one in ("manifest.json", "a.txt", "sheets/b.bin")
        ]
    said = command(other, "import", file, capsys=capsys)
    assert said == (0, f"3 artifacts are new in {other.root}, 0 were there\n")
    assert names(other) == ["extract/cc0", "index/aa0", "pretrain/bb0"]
    assert contents(other).items() <= contents(store).items()
    assert command(other, "verify", capsys=capsys)[0] == 0
    assert not list(other.root.glob(".import-*"))
    before = contents(other)
    shutil.rmtree(other.path("index", "aa0"))
    said = command(other, "import", file, capsys=capsys)
    assert said == (0, f"1 artifacts are new in {other.root}, 2 were there\n")
    assert contents(other) == before


def test_a_run_takes_along_exactly_what_it_needs(
    store: Store, other: Store, tmp_path: Path, capsys: Capture
) -> None:
    needed = chain(store)
    publish(store, "transfer/ee0")
    run = write_run(tmp_path / "run", store, needed)
    assert command(store, "export", tmp_path / "run.tar", "--run", run, capsys=capsys)[0] == 0
    command(other, "import", tmp_path / "run.tar", capsys=capsys)
    assert sorted(names(other)) == sorted(needed)
    message, _ = command(store, "export", tmp_path / "run.tar", "--run", run, capsys=capsys)
    assert message == f"{tmp_path / 'run.tar'} is there already; remove it or name another file"
    shutil.rmtree(store.path("extract", "cc0"))
    message, _ = command(store, "export", tmp_path / "2.tar", "--run", run, capsys=capsys)
    assert "1 of its 4 artifacts are not in" in message
    assert "such as extract/cc0" in message
    _, out = command(store, "export", tmp_path / "3.tar", "transfer/dd0", capsys=capsys)
    assert "left out, for it is no longer there: extract/cc0" in out


def test_what_is_damaged_does_not_leave(store: Store, tmp_path: Path, capsys: Capture) -> None:
    folder = publish(store, "stage/k1")
    (folder / "a.txt").write_text("other content of it")
    message, _ = command(store, "export", tmp_path / "a.tar", "stage/k1", capsys=capsys)
    assert str(message).startswith(f"{folder}/a.txt ")
    assert not list(tmp_path.glob("*.tar*"))


def packed(store: Store, file: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A tar file of all artifacts after a change of what each name holds: bytes or the member itself."""
    members: dict[str, Any] = dict(contents(store))
    change(members)
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content if isinstance(content, bytes) else b""))
    return file


def member(kind: bytes, name: str = "stage/k1/a.txt", link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


A, B, MANIFEST = "stage/k1/a.txt", "stage/k1/sheets/b.bin", "stage/k1/manifest.json"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update({"../evil": b"x"}), "'../evil' is no plain file"),
        (lambda m: m.update({"/tmp/evil/x": b"x"}), "'/tmp/evil/x' is no plain file"),
        (lambda m: m.update({"stage/../x": b"x"}), "'stage/../x' is no plain file"),
        (lambda m: m.update({"stage/k1.partial/x": b"x"}), "is no plain file"),
        (lambda m: m.update({".runs/lock/x": b"x"}), "is no plain file"),
        (lambda m: m.update({"stage/k1/../../../x": b"x"}), "stage/k1/../../../x has 1 bytes, and none"),
        (lambda m: m.update({"stage/k1//x": b"x"}), "stage/k1//x has 1 bytes, and none"),
        (lambda m: m.update({"loose": b"x"}), "'loose' is no plain file"),
        (lambda m: m.update({A: member(tarfile.SYMTYPE, link="/etc/passwd")}), f"{A!r} is no plain file"),
        (lambda m: m.update({A: member(tarfile.LNKTYPE, link=B)}), f"{A!r} is no plain file"),
        (lambda m: m.update({A: member(tarfile.CHRTYPE)}), f"{A!r} is no plain file"),
        (lambda m: m.update({A: member(tarfile.FIFOTYPE)}), f"{A!r} is no plain file"),
        (lambda m: m.update({"d": member(tarfile.DIRTYPE, "stage/k1/d")}), "is no plain file"),
        (lambda m: m.update({"twice": member(tarfile.REGTYPE)}), f"{A!r} is there twice"),
        (lambda m: m.pop(B), "sheets/b.bin has no bytes, and 10240 in its manifest"),
        (lambda m: m.pop(MANIFEST), "stage/k1 has no manifest.json"),
        (lambda m: m.update({A: m[A] + b"x"}), "bytes, and 19 in its manifest"),
        (lambda m: m.update({A: m[A].swapcase()}), "stage/k1/a.txt was changed after it was made"),
        (lambda m: m.update({MANIFEST: b"{}"}), "stage/k1/manifest.json was changed after"),
        (
            lambda m: m.update({MANIFEST: m[MANIFEST].replace(b"the stage", b"The stage")}),
            "was changed after",
        ),
    ],
)
def test_nothing_else_is_let_in(
    change: Any, said: str, store: Store, other: Store, tmp_path: Path, capsys: Capture
) -> None:
    publish(store, "stage/k1")
    file = packed(store, tmp_path / "x.tar", change)
    outside = {path for path in tmp_path.rglob("*") if other.root not in (path, *path.parents)}
    message, _ = command(other, "import", file, capsys=capsys)
    assert str(message).startswith(f"{file}: ")
    assert said in str(message)
    assert names(other) == []
    assert not list(other.root.glob(".import-*"))
    assert {path for path in tmp_path.rglob("*") if other.root not in (path, *path.parents)} == outside


def test_a_tar_file_that_ends_anywhere_else_or_is_damaged_is_refused(
    store: Store, other: Store, tmp_path: Path, capsys: Capture
) -> None:
    chain(store)
    file, cut = tmp_path / "x.tar", tmp_path / "cut.tar"
    command(store, "export", file, "transfer/dd0", capsys=capsys)
    whole = file.read_bytes()
    with tarfile.open(file) as tar:
        headers = [member.offset for member in tar.getmembers()]
        end = tar.offset
    for length in (*headers, *(offset + 100 for offset in headers), end, end + 100):
        cut.write_bytes(whole[:length])
        assert str(command(other, "import", cut, capsys=capsys)[0]).startswith(str(cut)), length
    for offset in headers:
        cut.write_bytes(whole[: offset + 1] + bytes([whole[offset + 1] ^ 1]) + whole[offset + 2 :])
        assert str(command(other, "import", cut, capsys=capsys)[0]).startswith(str(cut)), offset
    assert names(other) == []
    cut.write_bytes(b"no tar file")
    assert "is no tar file, or it is damaged" in command(other, "import", cut, capsys=capsys)[0]
    assert "there is no such file" in command(other, "import", tmp_path / "none", capsys=capsys)[0]


@pytest.mark.slow
def test_on_another_disk_the_same_command_goes_on(
    compose: Callable[..., dict[str, Any]],
    image_folder: Callable[..., Path],
    tmp_path: Path,
    capsys: Capture,
) -> None:
    root = image_folder(per_class=12)
    cfg = compose(*SMALL, f"data.root={root}", f"target.folder.root={root}")
    run(OmegaConf.create(cfg))
    results = (tmp_path / "run" / "results.json").read_bytes()
    moved, imported = Store(str(tmp_path / "moved" / "store")), Store(str(tmp_path / "imported"))
    moved.root.parent.mkdir()
    (tmp_path / "store").rename(moved.root)
    command(moved, "export", tmp_path / "run.tar", "--run", tmp_path / "run", capsys=capsys)
    command(imported, "import", tmp_path / "run.tar", capsys=capsys)
    for store in (moved, imported):
        assert command(store, "verify", capsys=capsys)[0] == 0
        again = tmp_path / f"again_{store.root.name}"
        cfg["runtime"] |= {"store": str(store.root), "run_dir": str(again)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Plan, "_make", lambda self, step, note: pytest.fail(f"{step.stage} is made again"))
            run(OmegaConf.create(cfg))
        assert (again / "results.json").read_bytes() == results
    assert contents(imported) == contents(moved)


@pytest.mark.parametrize("name", ["metrics.json", "draws.npy", "manifest.json"])
def test_cached_results_are_compared_with_their_checksums_before_they_are_shown(
    name: str, compose: Callable[..., dict[str, Any]], image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = image_folder(per_class=8)
    measured = ("rounds=0", "contestant=[random]", f"data.root={root}", f"target.folder.root={root}")
    cfg = compose(*SMALL, *measured)
    run(OmegaConf.create(cfg))
    (file,) = (tmp_path / "store" / "transfer").glob(f"*/{name}")
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    verified.cache_clear()
    (tmp_path / "run" / "results.json").unlink()
    with pytest.raises(StoreError) as error:
        run(OmegaConf.create(cfg))
    assert str(error.value).startswith(f"{file} was changed after it was made")
    assert not (tmp_path / "run" / "results.json").exists()
