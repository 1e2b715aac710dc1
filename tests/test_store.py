import errno
import json
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from cf_lightning.errors import StoreError
from cf_lightning.store import BLOCK, Store, checksums, explained


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def publish(store: Store, key: str = "k1") -> Path:
    partial = store.partial("stage", key)
    partial.mkdir(parents=True)
    (partial / "a.txt").write_text("content")
    store.publish("stage", key, {"seconds": 1.0})
    return store.path("stage", key)


def test_publishing_renames_the_whole_folder_with_its_manifest(store: Store) -> None:
    folder = publish(store)
    assert not store.partial("stage", "k1").exists()
    manifest = store.manifest("stage", "k1")
    assert manifest is not None
    assert manifest["files"]["a.txt"]["bytes"] == len("content")
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    assert store.manifest("stage", "other") is None


@pytest.mark.parametrize(("content", "message"), [("CONTENT", "changed after"), ("cont", "truncated")])
def test_a_damaged_file_is_named(store: Store, content: str, message: str) -> None:
    folder = publish(store)
    store.verify("stage", "k1")
    folder2 = publish(store, "k2")
    (folder2 / "a.txt").write_text(content)
    with pytest.raises(StoreError, match=message) as error:
        store.verify("stage", "k2")
    assert str(folder2 / "a.txt") in str(error.value)
    assert folder != folder2


def test_checksums_are_of_blocks(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with open(file, "wb") as stream:
        stream.truncate(BLOCK + 1)
    assert len(checksums(file)) == 2


def test_lock_excludes_and_says_so(store: Store) -> None:
    heard, says = os.pipe()
    with store.lock("stage", "k1", lambda line: None):
        pid = os.fork()
        if not pid:
            with store.lock("stage", "k1", lambda line: os.write(says, line.encode())):
                os._exit(0)
        assert b"waiting for another run" in os.read(heard, 1000)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the child got the lock while the parent held it"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_store_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"runtime.store=.*cannot be written"):
        Store(str(tmp_path / "file")).test()
    good = Store(str(tmp_path / "good"))
    good.test()
    assert list(good.root.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: ... (os error 28)")],
)
def test_a_full_disk_says_what_to_do(error: Exception, tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match=r"runtime.store=.*disk is full .*what is done is kept"),
        explained(tmp_path),
    ):
        raise error
    with pytest.raises(ZeroDivisionError), explained(tmp_path):
        _ = 1 / 0
