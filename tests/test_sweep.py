"""Reading folders of runs, and the points of a sweep's curves."""

from pathlib import Path

import pytest
from scipy import stats

from cf_lightning.errors import DataError
from cf_lightning.sweep import Point, commands, job_folders, points, read_jobs
from sweeps import result, write_jobs, write_run


def found(sweep: Path, contestant: str = "student") -> dict[tuple[str, tuple[int, ...]], Point]:
    every = points(read_jobs(job_folders(sweep)))
    return {(p.variant, p.k): p for p in every if p.contestant == contestant and p.panel.metric == "top1"}


def test_a_point_is_the_mean_over_seeds_with_students_t(tmp_path: Path) -> None:
    student = found(write_jobs(tmp_path))
    assert list(student) == [("", (4,)), ("", (16,))]
    values = [0.304, 0.314, 0.324]
    value = student["", (4,)].value
    low, high = stats.t.interval(0.95, 2, stats.tmean(values), stats.sem(values))
    assert (value.mean, value.low, value.high) == pytest.approx((0.314, low, high))
    assert value.seeds == 3
    assert value.std == pytest.approx(0.01)
    gain = student["", (4,)].gain
    assert gain is not None
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0.004, low - 0.31, high - 0.31))
    assert student["", (16,)].cost == pytest.approx(26.0), "not what every k shares"


def test_what_jobs_share_counts_once_and_keeps_its_interval_over_images(tmp_path: Path) -> None:
    write_jobs(tmp_path)
    (teacher,) = found(tmp_path, "teacher").values()
    assert (teacher.value.seeds, teacher.value.std, teacher.k, teacher.cost) == (1, None, (), None)
    assert (teacher.value.low, teacher.value.high) == pytest.approx((0.29, 0.34))
    assert teacher.gain is None


def test_seeds_of_the_whole_run_pair_each_student_with_its_teacher(tmp_path: Path) -> None:
    for seed, (before, after) in enumerate([(0.30, 0.35), (0.20, 0.25)]):
        rows = [result("teacher", before, f"t{seed}"), result("student", after, f"s{seed}")]
        write_run(tmp_path / str(seed), rows, f"seed={seed}")
    gain = found(tmp_path)["", (64,)].gain
    assert gain is not None
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0.05, 0.05, 0.05)), (
        "teachers differ, gains do not"
    )


def test_one_seed_has_the_gain_of_newcombe(tmp_path: Path) -> None:
    write_run(tmp_path / "0", [result("teacher", 0.3, "t"), result("student", 0.4, "s")])
    gain = found(tmp_path)["", (64,)].gain
    assert gain is not None
    assert (gain.low, gain.high) == pytest.approx((0.1 - 0.0013**0.5, 0.1 + 0.0013**0.5))


def test_a_variant_is_what_differs_beside_k_seeds_machine_and_rows(tmp_path: Path) -> None:
    for job, lr in enumerate(["0.1", "0.01"]):
        own = [f"+x.lr={lr}", f"seed={job}", f"runtime.store=/s{job}", f"logger={job}", f"transfer=[{job}]"]
        write_run(
            tmp_path / str(job), [result("student", 0.3, f"s{job}", [16, 4])], "pretrain.epochs=1", *own
        )
    assert list(found(tmp_path)) == [("x.lr=0.1", (4, 16)), ("x.lr=0.01", (4, 16))]
    (first, _) = read_jobs(job_folders(tmp_path))
    assert first.overrides == ("+x.lr=0.1", "seed=0", "transfer=[0]")


def test_broken_folders_are_named_and_left_out(tmp_path: Path) -> None:
    write_jobs(tmp_path, ks=(4,), seeds=2)
    write_run(tmp_path / "2", [], "cluster.k=5", status="running")
    write_run(tmp_path / "3", [], "cluster.k=-3", status="failed", error="k=-3 cannot be")
    (tmp_path / "4").mkdir()
    (tmp_path / "5" / ".hydra").mkdir(parents=True)
    write_run(tmp_path / "6", [], "cluster.k=6")
    (tmp_path / "6" / "results.json").write_text('[{"experiment": 1}]')
    write_run(tmp_path / "7", [], "cluster.k=7")
    (tmp_path / "7" / "results.json").unlink()
    (tmp_path / "8").mkdir()
    (tmp_path / "8" / "run.json").write_bytes(b"\xff\xfe{")
    (tmp_path / "10").mkdir()
    (tmp_path / "10" / "run.json").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "9").write_text("a file")
    jobs = read_jobs(job_folders(tmp_path))
    problems = {job.name: job.problem for job in jobs}
    assert list(problems) == ["0", "1", "2", "3", "4", "5", "6", "7", "8", "10"]
    assert problems["0"] is problems["1"] is None
    assert problems["2"] == "not finished"
    assert problems["3"] == "failed: k=-3 cannot be"
    assert problems["4"] == "foreign: no run.json"
    assert problems["5"] == "not finished: no run.json yet"
    for job, text in {"6": "results.json", "7": "no such file", "8": "run.json", "10": "run.json"}.items():
        assert str(problems[job]).startswith("corrupt")
        assert text in str(problems[job])
    assert [job.name for job in jobs if job.failed] == ["3", "6", "7", "8", "10"]
    assert {point.value.seeds for point in points(jobs) if point.k} == {2}


def test_runs_from_anywhere_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    one, two = (write_run(tmp_path / name / "run", [result("student", 0.3, name)]) for name in ("a", "b"))
    assert [job.name for job in read_jobs([one, two, one])] == ["a/run", "b/run"]
    assert read_jobs([]) == []
    with pytest.raises(DataError, match="there is no such folder"):
        job_folders(tmp_path / "nowhere")


def test_the_command_of_a_grid_is_one_multirun(tmp_path: Path) -> None:
    write_jobs(tmp_path)
    jobs = read_jobs(job_folders(tmp_path))
    start = "python -m cf_lightning"
    assert commands(jobs) == [f"{start} -m +experiment=demo cluster.k=4,16 clusterfit.seed=0,1,2"]
    assert commands(jobs[:1]) == [f"{start} +experiment=demo cluster.k=4 clusterfit.seed=0"]
    assert len(commands(jobs[:-1])) == 5, "no grid: each job by itself"
    write_run(tmp_path / "6", [], "cluster.k=[4,16]")
    assert commands(read_jobs([tmp_path / "6"])) == [f"{start} +experiment=demo 'cluster.k=[4,16]'"]
    assert commands([]) == []
