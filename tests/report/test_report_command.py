"""``python -m cf_lightning.report``."""

import subprocess
import sys
from pathlib import Path

from sweeps import result, write_jobs, write_run


def command(*words: Path | str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "cf_lightning.report", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)


def test_a_run_gets_its_page_anew(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [result("student", 0.3, "s")])
    done = command(run)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"wrote {run / 'report.html'}\n"
    assert (run / "report.html").exists()
    assert not (tmp_path / "sweep.csv").exists()


def test_a_sweep_gets_its_files_and_the_pages_of_its_runs(tmp_path: Path) -> None:
    write_jobs(tmp_path, ks=(4,), seeds=2)
    write_run(tmp_path / "2", [], "cluster.k=-3", status="failed", error="k=-3")
    (tmp_path / "3").mkdir()
    done = command(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "student k=4" in done.stdout
    assert f"left out: {tmp_path / '2'}: failed: k=-3" in done.stdout
    assert f"left out: {tmp_path / '3'}: foreign: no run.json" in done.stdout
    assert all((tmp_path / job / "report.html").exists() for job in "012")
    page = (tmp_path / "report.html").read_text()
    assert 'href="0/report.html"' in page
    assert 'href="2/report.html"' in page, "a failed run has a page too"


def test_several_runs_are_compared_in_a_place_of_their_own(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, [result("student", 0.3, name)], f"x.lr={lr}")
        for name, lr in {"a": 0.1, "b": 0.2}.items()
    ]
    refused = command(*runs)
    assert refused.returncode == 1
    assert refused.stderr == "--out DIR is missing: the place for the comparison of 2 folders\n"
    sweep = write_jobs(tmp_path / "sweep", ks=(4,), seeds=1)
    done = command(*runs, sweep, "--out", tmp_path / "new" / "out")
    assert done.returncode == 0, done.stderr
    assert {"x.lr=0.1", "x.lr=0.2"} <= set(done.stdout.split())
    assert (tmp_path / "new" / "out" / "sweep.tex").exists()
    assert not (sweep / "sweep.csv").exists()


def test_zero_runs_are_one_clear_message(tmp_path: Path) -> None:
    nowhere = command(tmp_path / "nowhere")
    assert (nowhere.returncode, nowhere.stderr) == (1, f"{tmp_path / 'nowhere'}: there is no such folder\n")
    empty = command(tmp_path)
    assert (empty.returncode, len(empty.stderr.splitlines())) == (1, 1)
    assert f"{tmp_path}: no run's folder (with run.json) and no multirun's" in empty.stderr
    assert not list(tmp_path.iterdir()), "nothing is written where nothing is"
    write_run(tmp_path / "0", [], status="failed", error="why")
    none = command(tmp_path)
    assert none.returncode == 1
    assert none.stderr == f"{tmp_path}: none of 1 runs is finished\n"
    assert f"left out: {tmp_path / '0'}: failed: why" in none.stdout
