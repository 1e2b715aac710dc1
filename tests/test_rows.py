import fcntl
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cf_lightning.data.index import Index
from cf_lightning.errors import StoreError
from cf_lightning.rows import SKIPPED, RowFile, describe_rows, open_rows, read_rows, read_skipped


def make_index(num_rows: int, prefix: str = "") -> Index:
    columns = {
        "key": [f"{prefix}{row}.jpg" for row in range(num_rows)],
        "split": ["train"] * num_rows,
        "labels": [[]] * num_rows,
        "tags": [[]] * num_rows,
        "size": [1] * num_rows,
        "crc": [None] * num_rows,
        "shard": [None] * num_rows,
        "offset": [None] * num_rows,
    }
    return Index(pa.table(columns), "here")


def test_rows_in_any_order_make_the_array(tmp_path: Path) -> None:
    wanted = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float16)
    file = RowFile(tmp_path / "a.npy", (10, 3), "float16")
    for start, stop in ((7, 10), (0, 4), (4, 7), (4, 7)):
        file.write(start, wanted[start:stop])
    file.close()
    file.assert_complete()
    assert np.array_equal(np.load(tmp_path / "a.npy"), wanted)
    assert open_rows(tmp_path / "a.npy").dtype == np.float16


def test_the_file_has_its_final_size_from_the_start_and_says_what_is_missing(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "a.npy", (6,), "int64")
    assert np.load(tmp_path / "a.npy").tolist() == [0] * 6
    file.write(1, np.array([7, 8]))
    file.write(4, np.array([0]), SKIPPED)
    file.close()
    file.close()
    assert np.flatnonzero(file.pending()).tolist() == [0, 3, 5]
    assert file.skipped().tolist() == [4]
    with pytest.raises(StoreError, match=r"a\.npy: 3 of 6 rows are missing, from row 0 on"):
        file.assert_complete()


def test_continues_what_is_there_if_shape_and_dtype_agree(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    first = RowFile(path, (4, 2), "float32")
    first.write(0, np.ones((2, 2), np.float32))
    first.write(3, np.zeros((1, 2), np.float32), SKIPPED)
    first.close()
    again = RowFile(path, (4, 2), "float32")
    assert again.pending().tolist() == [False, False, True, False]
    assert again.skipped().tolist() == [3]
    again.write(2, np.full((1, 2), 5, np.float32))
    again.close()
    assert np.load(path)[:, 0].tolist() == [1, 1, 5, 0]


@pytest.mark.parametrize(
    ("shape", "dtype"), [((5, 2), "float32"), ((4, 3), "float32"), ((4, 2), "int32"), ((4, 4), "float16")]
)
def test_begins_anew_otherwise(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    path = tmp_path / "a.npy"
    old = RowFile(path, (4, 2), "float32")
    old.write(0, np.ones((4, 2), np.float32))
    old.close()
    new = RowFile(path, shape, dtype)
    assert new.pending().all()
    assert np.load(path).shape == shape
    assert not np.load(path).any()


@pytest.mark.parametrize("broken", ["a.npy", "a.done"])
def test_begins_anew_when_a_file_is_truncated_or_gone(tmp_path: Path, broken: str) -> None:
    for damage in (lambda file: os.truncate(file, 3), os.unlink):
        old = RowFile(tmp_path / "a.npy", (4, 2), "float32")
        old.write(0, np.ones((4, 2), np.float32))
        old.close()
        damage(tmp_path / broken)
        assert RowFile(tmp_path / "a.npy", (4, 2), "float32").pending().all()


def test_a_row_is_recorded_only_after_it_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = RowFile(tmp_path / "a.npy", (4,), "int64")
    calls: list[str] = []
    names = {file._data: "data", file._done: "done"}
    pwrite, fsync = os.pwrite, os.fsync

    def noted_pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        calls.append(names[descriptor])
        return pwrite(descriptor, data, offset)

    def noted_fsync(descriptor: int) -> None:
        calls.append(f"sync {names[descriptor]}")
        fsync(descriptor)

    monkeypatch.setattr(os, "pwrite", noted_pwrite)
    monkeypatch.setattr(os, "fsync", noted_fsync)
    file.write(0, np.array([1, 2]))
    file.write(2, np.array([3]))
    assert calls == ["data", "data"]
    assert file.pending().all()
    file.close()
    assert calls == ["data", "data", "sync data", "done", "done"]
    assert file.pending().tolist() == [False, False, False, True]


def test_a_failing_sync_leaves_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    file = RowFile(tmp_path / "a.npy", (4,), "int64")
    file.write(0, np.array([1, 2]))
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(
        StoreError, match=r"a\.npy cannot be written \(No space left on device\).*runtime\.store"
    ):
        file.close()
    assert file.pending().all()


def test_rows_are_recorded_while_the_file_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RowFile, "SYNC_SECONDS", -1.0)
    file = RowFile(tmp_path / "a.npy", (4,), "int64")
    file.write(0, np.array([1, 2]))
    assert file.pending().tolist() == [False, False, True, True]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    file = RowFile(tmp_path / "a.npy", (50, 3), "float32")
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:7], at))
    wanted = np.arange(150, dtype=np.float32).reshape(50, 3)
    file.write(0, wanted)
    file.close()
    assert np.array_equal(np.load(tmp_path / "a.npy"), wanted)


def test_refuses_rows_that_do_not_fit(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "a.npy", (4, 2), "float32")
    for start, rows in (
        (3, np.ones((2, 2), np.float32)),
        (-1, np.ones((2, 2), np.float32)),
        (0, np.ones((2, 3), np.float32)),
        (0, np.ones((2, 2), np.float16)),
    ):
        with pytest.raises(ValueError, match=r"a\.npy"):
            file.write(start, rows)


def test_a_folder_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        RowFile(tmp_path / "nowhere" / "a.npy", (4, 2), "float32")


WRITER = """
import sys
import numpy as np
from pathlib import Path
from cf_lightning.rows import RowFile

rank = int(sys.argv[2])
for _ in range(20):
    file = RowFile(Path(sys.argv[1]), (3000, 4), "float32")
    for start in range(rank * 1000, (rank + 1) * 1000, 50):
        rows = np.arange(start, start + 50, dtype=np.float32)
        file.write(start, np.repeat(rows[:, None], 4, axis=1))
    file.close()
"""


def test_several_processes_open_and_fill_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    stale = RowFile(path, (3000, 2), "float32")
    stale.write(0, np.ones((3000, 2), np.float32))
    stale.close()
    ranks = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(rank)]) for rank in range(3)]
    assert [rank.wait() for rank in ranks] == [0, 0, 0]
    RowFile(path, (3000, 4), "float32").assert_complete()
    assert np.array_equal(np.load(path)[:, 2], np.arange(3000))


def test_whoever_opens_waits_for_the_one_who_is_opening(tmp_path: Path) -> None:
    with open(tmp_path / "a.done", "wb") as done:
        fcntl.flock(done, fcntl.LOCK_EX)
        second = threading.Thread(target=RowFile, args=(tmp_path / "a.npy", (4,), "int64"))
        second.start()
        second.join(timeout=0.3)
        assert second.is_alive()
        fcntl.flock(done, fcntl.LOCK_UN)
    second.join()
    assert np.load(tmp_path / "a.npy").tolist() == [0] * 4


def test_read_rows_returns_a_memmap_of_the_samples(tmp_path: Path) -> None:
    index = make_index(5)
    np.save(tmp_path / "features.npy", np.arange(10.0).reshape(5, 2))
    describe_rows(tmp_path, "features", index, layer="fc")
    facts = json.loads((tmp_path / "features.json").read_text())
    assert facts == {"index": index.fingerprint, "rows": 5, "dim": 2, "dtype": "float64", "layer": "fc"}
    rows = read_rows(tmp_path, "features", index)
    assert isinstance(rows, np.memmap)
    assert rows[3].tolist() == [6, 7]
    rows[3] = 0
    assert np.load(tmp_path / "features.npy")[3].tolist() == [6, 7]


def test_read_rows_refuses_other_samples(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", np.zeros((5, 2)))
    describe_rows(tmp_path, "features", make_index(5))
    with pytest.raises(StoreError, match=r"features\.npy belongs to the samples with fingerprint"):
        read_rows(tmp_path, "features", make_index(5, prefix="other"))


def test_read_rows_refuses_a_truncated_file(tmp_path: Path) -> None:
    index = make_index(5)
    np.save(tmp_path / "features.npy", np.zeros((5, 2)))
    describe_rows(tmp_path, "features", index)
    os.truncate(tmp_path / "features.npy", 150)
    with pytest.raises(StoreError, match=r"features\.npy is missing or truncated"):
        read_rows(tmp_path, "features", index)


def test_read_rows_refuses_another_number_of_rows(tmp_path: Path) -> None:
    index = make_index(5)
    np.save(tmp_path / "features.npy", np.zeros((4, 2)))
    describe_rows(tmp_path, "features", index)
    with pytest.raises(StoreError, match="has 4 rows for 5 samples"):
        read_rows(tmp_path, "features", index)


def test_read_rows_and_read_skipped_name_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"features\.json cannot be read"):
        read_rows(tmp_path, "features", make_index(5))
    with pytest.raises(StoreError, match=r"skipped\.npy cannot be read"):
        read_skipped(tmp_path)
    np.save(tmp_path / "skipped.npy", np.array([2]))
    assert read_skipped(tmp_path).tolist() == [2]


MEMORY = """
import sys
import numpy as np
from pathlib import Path
from cf_lightning.rows import RowFile

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

file = RowFile(Path(sys.argv[1]), (200_000, 64), "float16")
batch = np.ones((500, 64), np.float16)
file.write(0, batch)
before = anonymous()
for start in range(0, 200_000, 500):
    file.write(start, batch)
file.close()
print(anonymous() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_written_rows_do_not_stay_in_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "a.npy")]
    grown_kib = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown_kib < 4_000  # the file has 25,600 kB
