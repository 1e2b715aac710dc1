"""``store ls``, ``show`` and ``verify``."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cf_lightning.errors import StoreError
from cf_lightning.store import Store, verified
from stores import age, chain, command, publish, write_run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def test_ls_counts_who_reads_an_artifact_and_which_runs_need_it(
    store: Store, tmp_path: Path, capsys: Capture
) -> None:
    names = chain(store)
    for number, needed in enumerate((names, names[:2])):
        write_run(tmp_path / "runs" / "e" / str(number), store, needed)
    code, out = command(store, "ls", "--runs", tmp_path / "runs", capsys=capsys)
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    counts = {line[0]: line[-2:] for line in lines if line and line[0] in names}
    assert counts == {
        "index/aa0": ["2", "2"],
        "pretrain/bb0": ["1", "2"],
        "extract/cc0": ["1", "1"],
        "transfer/dd0": ["-", "1"],
    }
    assert "4 artifacts, 0.0 MiB" in out
    _, only = command(store, "ls", "extract", "--runs", tmp_path, capsys=capsys)
    assert re.findall(r"^\w+/\w+", only, re.MULTILINE) == ["extract/cc0"]


def test_ls_shows_what_is_damaged_and_what_was_left_behind(store: Store, capsys: Capture) -> None:
    folder = publish(store, "stage/k1")
    (folder / "manifest.json").write_text("{")
    for name in ("idle", "busy"):
        store.partial("stage", name).mkdir()
        age(store.partial("stage", name), 3)
    (store.root / ".import-x").mkdir()
    with store.lock("stage", "busy", print):
        code, out = command(store, "ls", capsys=capsys)
    assert code == 0
    assert f"damaged: {folder}/manifest.json was changed" in out
    assert re.search(r"stage/idle.partial +0.0 MiB +3.0 days ago +nobody holds it", out)
    assert re.search(r"stage/busy.partial +.* in the making", out)
    assert ".import-x" in out


def test_show_tells_what_made_it_of_what_and_who_needs_it(
    store: Store, tmp_path: Path, capsys: Capture
) -> None:
    run = write_run(tmp_path / "runs" / "one", store, chain(store))
    code, out = command(store, "show", "extract/c", "--runs", tmp_path / "runs", capsys=capsys)
    assert code == 0
    order = [
        "extract/cc0",
        "commit",
        "abc",
        "top1",
        '"k": 4',
        "made of",
        "data: index/aa0",
        "trunk: pretrain/bb0",
    ]
    order += ["data: index/aa0", "(as above)", "read by", "transfer/dd0", str(run), "sheets/b.bin"]
    place = 0
    for one in order:
        assert one in out[place:], f"{one} comes after {out[:place]}"
        place = out.index(one, place) + len(one)


def test_the_beginning_of_a_key_has_to_be_unique(store: Store, capsys: Capture) -> None:
    for name in ("extract/ab1", "extract/ab2", "space/ab1"):
        publish(store, name)
    for text, message in (
        ("extract/ab", "extract/ab may be any of extract/ab1, extract/ab2; give more of the key"),
        ("ab1", "ab1 may be any of extract/ab1, space/ab1; give more of the key"),
        ("extract/b", f"extract/b: there is no such artifact in {store.root}; ls shows what there is"),
    ):
        assert command(store, "show", text, capsys=capsys) == (message, "")
    assert command(store, "show", "space/", capsys=capsys)[0] == 0


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("flip", "sheets/b.bin was changed after it was made"),
        ("cut", "sheets/b.bin is missing or truncated"),
        ("gone", "sheets/b.bin is missing or truncated"),
        ("more", "sheets/c.bin does not belong to the artifact"),
        ("link", "sheets/b.bin was changed after it was made"),
        ("manifest", "manifest.json was changed after it was made"),
    ],
)
def test_verify_names_every_damage(harm: str, said: str, store: Store, capsys: Capture) -> None:
    chain(store)
    assert command(store, "verify", capsys=capsys) == (0, "nothing is missing, changed or added\n")
    folder = publish(store, "stage/k1")
    file = folder / "sheets" / "b.bin"
    content = bytearray(file.read_bytes())
    if harm == "flip":
        content[77] ^= 4
        file.write_bytes(content)
    elif harm == "cut":
        file.write_bytes(content[:-1])
    elif harm == "gone":
        file.unlink()
    elif harm == "more":
        file.with_name("c.bin").write_bytes(b"")
    elif harm == "link":
        (store.root / "other").write_bytes(content[::-1])
        file.unlink()
        file.symlink_to(store.root / "other")
    else:
        (folder / "manifest.json").write_text("[1]")
    code, out = command(store, "verify", capsys=capsys)
    assert out.startswith(f"{folder}/{said}")
    assert len(out.splitlines()) == 1
    assert str(code).startswith(f"1 artifacts are damaged: remove {folder} to have it made again")
    assert command(store, "verify", "extract/cc0", capsys=capsys)[0] == 0


def test_what_is_read_is_verified_and_no_more(store: Store) -> None:
    folder = publish(store, "stage/k1")
    (folder / "a.txt").write_text("other content here")
    store.verify("stage", "k1", "sheets/b.bin")
    assert verified(folder, ())["title"] == "the stage"
    for names in (("a.txt",), ("sheets/b.bin", "a.txt"), ()):
        with pytest.raises(StoreError, match=rf"^{folder}/a.txt .*; remove {folder} .*store verify"):
            store.verify("stage", "k1", *names)
    with pytest.raises(StoreError, match=r"nothing\.txt is no file of the artifact"):
        store.verify("stage", "k1", "nothing.txt")
    with pytest.raises(StoreError, match=r"k2 is not there"):
        store.verify("stage", "k2")


def test_a_store_that_is_not_there_is_one_message(tmp_path: Path, capsys: Capture) -> None:
    nowhere = Store(str(tmp_path / "nowhere"))
    for words in (["ls"], ["verify"], ["gc"], ["show", "x"], ["export", "f.tar", "x"]):
        message, _ = command(nowhere, *words, capsys=capsys)
        assert message == f"--store {nowhere.root}: there is no such folder"
    assert not nowhere.root.exists()


def test_the_command_imports_nothing_heavy() -> None:
    heavy = {"torch", "lightning", "faiss", "torchvision", "wandb"}
    code = f"import sys, cf_lightning.store.__main__; print(*{heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
