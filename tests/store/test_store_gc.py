"""``store gc`` removes what no run needs, and nothing else."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cf_lightning.pipeline import run
from cf_lightning.plan import Plan
from cf_lightning.runs import Run
from cf_lightning.store import Store
from cf_lightning.store.cleaning import find_waste, remove
from cf_lightning.store.users import users
from cf_lightning.store.uses import known, removing, using
from stores import SMALL, age, chain, command, publish, write_run

Gc = Callable[..., tuple[Any, str]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def gc(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Gc:
    def run(*words: str) -> tuple[Any, str]:
        return command(store, "gc", *words, "--runs", tmp_path / "runs", capsys=capsys)

    return run


def left(store: Store) -> set[str]:
    return {f"{stage}/{key}" for stage, key in store.finished()}


def test_what_a_finished_run_needs_stays_and_the_rest_goes(store: Store, tmp_path: Path, gc: Gc) -> None:
    names = chain(store, days=30)
    publish(store, "transfer/ee0", {"features": "extract/cc0"}, days=30)
    publish(store, "transfer/new0", days=6)
    write_run(tmp_path / "runs" / "e" / "one", store, names[:3], days=400)
    code, out = gc("--dry-run")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["transfer/dd0", "transfer/ee0"]
    assert "3 artifacts stay, for one of 1 runs needs them; 1 folders that none needs stay" in out
    assert len(left(store)) == 6
    assert gc() == ("nothing is removed, for nobody can be asked: add --yes", out)
    assert len(left(store)) == 6
    code, out = gc("--yes")
    assert (code, out.splitlines()[-1]) == (0, "removed 2 of them, 0.0 MiB")
    assert left(store) == {*names[:3], "transfer/new0"}
    gc("--yes", "--keep-days", "0")
    assert left(store) == {*names[:3]}
    assert not list(store.root.glob(".removed-*"))


@pytest.mark.parametrize(
    ("status", "days", "stays"),
    [
        *(("failed", 6, True), ("failed", 8, False), ("running", 6, True), ("running", 8, False)),
        ("done", 8, True),
    ],
)
def test_a_run_without_success_is_given_some_days(
    status: str, days: float, stays: bool, store: Store, tmp_path: Path, gc: Gc
) -> None:
    names = chain(store, days=30)
    write_run(tmp_path / "runs" / "done", store, names[:1])
    write_run(tmp_path / "runs" / "other", store, names[:2], days=days, status=status)
    gc("--yes")
    assert left(store) == {*names[: 1 + stays]}


def test_a_run_that_the_store_knows_is_found_wherever_it_lies(store: Store, tmp_path: Path, gc: Gc) -> None:
    names = chain(store, days=30)
    write_run(tmp_path / "elsewhere" / "run", store, names[:2])
    with using(store.root, tmp_path / "elsewhere" / "run"):
        pass
    gc("--yes")
    assert left(store) == {*names[:2]}


def test_what_a_runs_command_names_by_its_path_stays(store: Store, tmp_path: Path, gc: Gc) -> None:
    names = chain(store, days=30)
    for name in ("curate/ab0", "curate/ab1"):
        publish(store, name, days=30)
    overrides = [
        f"data.manifest={store.root}/curate/ab0/manifest.parquet",
        "teacher.path=s/pretrain/bb0/a.txt",
    ]
    write_run(tmp_path / "runs" / "done", store, names[:1], overrides=overrides)
    gc("--yes")
    assert left(store) == {*names[:2], "curate/ab0"}


def test_a_run_that_is_going_on_keeps_all_that_it_needs_for_as_long_as_it_takes(
    store: Store, tmp_path: Path, gc: Gc
) -> None:
    names = chain(store, days=30)
    store.partial("clusterfit", "ff0").mkdir(parents=True)
    age(store.partial("clusterfit", "ff0"), 30)
    run = write_run(tmp_path / "x", store, [*names, "clusterfit/ff0"], days=20, status="running")
    write_run(tmp_path / "runs" / "done", store, names[:1])
    with using(store.root, run):
        gc("--yes")
        assert left(store) == {*names}
        assert store.partial("clusterfit", "ff0").exists()
    gc("--yes")
    assert left(store) == {*names[:1]}
    assert not store.partial("clusterfit", "ff0").exists()


def test_where_it_is_not_known_what_is_needed_nothing_goes(store: Store, tmp_path: Path, gc: Gc) -> None:
    names = chain(store, days=30)
    message, _ = gc("--yes")
    assert "all of it" not in message
    assert f"nothing is removed, for all of {store.root} would go: of 0 runs" in message
    write_run(tmp_path / "runs" / "done", store, names[:1])
    silent = write_run(tmp_path / "runs" / "silent", store, [], status="running")
    message, _ = gc("--yes")
    assert f"the run in {silent} has begun and not said yet what it needs" in message
    write_run(silent, store, [], status="running", days=8)
    (tmp_path / "runs" / "bad").mkdir()
    (tmp_path / "runs" / "bad" / "run.json").write_text("{")
    message, _ = gc("--yes")
    assert f"{tmp_path / 'runs' / 'bad' / 'run.json'}: not the record of a run" in message
    (tmp_path / "runs" / "bad" / "run.json").unlink()
    with using(store.root, tmp_path / "gone"):
        message, _ = gc("--yes")
    assert f"{tmp_path / 'gone' / 'run.json'} is gone, and the run is going on" in message
    assert left(store) == {*names}
    assert gc("--yes")[0] == 0
    assert left(store) == {*names[:1]}
    assert known(store.root) == {}, "a run whose folder is gone is forgotten"


def test_partial_folders_go_when_they_are_old_and_nobody_holds_them(
    store: Store, tmp_path: Path, gc: Gc
) -> None:
    write_run(tmp_path / "runs" / "done", store, chain(store))
    write_run(tmp_path / "runs" / "failed", store, ["train/wanted"], status="failed")
    for name, days in {"young": 6, "old": 8, "held": 8, "survived": 8, "wanted": 8}.items():
        store.partial("train", name).mkdir(parents=True)
        (store.partial("train", name) / "resume.ckpt").write_bytes(b"x" * 100)
        age(store.partial("train", name), days)
    ranks = store.root / "train" / "survived.ranks"
    ranks.touch()
    with open(ranks) as alive, store.lock("train", "held", print):
        fcntl.flock(alive, fcntl.LOCK_SH)
        _, out = gc("--yes")
    assert "removed 1 of them" in out
    assert [key for _, key in store.unfinished()] == ["held", "survived", "wanted", "young"]
    gc("--yes")
    assert [key for _, key in store.unfinished()] == ["wanted", "young"]
    assert not ranks.exists()


def test_what_a_tool_that_was_killed_left_behind_goes(store: Store, tmp_path: Path, gc: Gc) -> None:
    names = chain(store, days=30)
    write_run(tmp_path / "runs" / "done", store, names)
    for name in (".removed-a", ".import-b", ".test-c"):
        (store.root / name / "0").mkdir(parents=True)
        age(store.root / name, 8)
    gc("--yes")
    assert sorted(path.name for path in store.root.glob(".*")) == [".runs"]
    assert left(store) == {*names}


def test_a_run_that_begins_while_a_person_is_asked_keeps_what_it_needs(store: Store, tmp_path: Path) -> None:
    names = chain(store, days=30)
    write_run(tmp_path / "runs" / "done", store, names[:1])
    shown = find_waste(store, [tmp_path / "runs"], 7).folders
    assert len(shown) == 3
    with using(store.root, write_run(tmp_path / "new", store, names[:2], status="running")):
        gone = remove(store, shown, [tmp_path / "runs"], 7)
    assert {one.name for one in gone} == {*names[2:]}
    assert left(store) == {*names[:2]}


def test_no_run_begins_while_something_is_removed(store: Store, tmp_path: Path) -> None:
    heard, says = os.pipe()
    store.test()
    with removing(store.root):
        pid = os.fork()
        if not pid:
            os.write(says, b"waits")
            with using(store.root, tmp_path / "run"):
                os._exit(0)
        assert os.read(heard, 100) == b"waits"
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        assert known(store.root) == {}
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert known(store.root) == {tmp_path / "run": False}, "its end ended its claim"


def test_a_store_that_cannot_be_written_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with using(tmp_path / "file", tmp_path / "run"):
        pass

    def read_only(self: Path, *args: Any, **more: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", read_only)
    with using(tmp_path / "store", tmp_path / "run") as enter:
        enter()


def test_a_run_that_is_refused_makes_no_store(store: Store, tmp_path: Path) -> None:
    with using(store.root, tmp_path / "run") as enter:
        assert not store.root.exists()
        store.test()
        for _ in range(2):
            enter()
            assert known(store.root) == {tmp_path / "run": True}
    assert known(store.root) == {tmp_path / "run": False}


def test_a_run_says_what_it_needs_before_it_makes_anything(
    store: Store,
    compose: Callable[..., dict[str, Any]],
    image_folder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = image_folder(per_class=8)
    cfg = compose(*SMALL, f"data.root={root}", f"target.folder.root={root}")

    def killed(plan: Plan, console: Any) -> None:
        assert known(store.root) == {tmp_path / "run": True}
        record = Run.read(tmp_path / "run")
        assert record.status == "running"
        assert [step.key for step in record.steps] == [step.key for step in plan.steps]
        raise ZeroDivisionError

    monkeypatch.setattr(Plan, "run", killed)
    with pytest.raises(ZeroDivisionError):
        run(OmegaConf.create(cfg))
    assert known(store.root) == {tmp_path / "run": False}
    (user,), problems = users(store, [])
    assert (user.folder, user.run.status, user.is_silent, problems) == (tmp_path / "run", "failed", False, [])
