"""A sweep's tables, pictures and page."""

import csv
import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from cf_lightning.report.curves import INK, Level, Series, inline, line_chart
from cf_lightning.report.sweep_page import write_sweep
from cf_lightning.report.sweep_table import latex, markdown, sweep_table, table_of
from cf_lightning.results import COLUMNS
from cf_lightning.sweep import job_folders, read_jobs
from cf_lightning.tracking.csv import CSVTracker
from sweeps import result, write_jobs, write_run

EVIL = "<script>alert(1)</script>&_$x_{100%}"
FILES = ["failed.csv", "report.html", "sweep.csv", "sweep.md", "sweep.tex"]


def read_csv(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_csv_has_every_row_of_every_job(tmp_path: Path) -> None:
    jobs = write_sweep(write_jobs(tmp_path))
    rows = read_csv(tmp_path / "sweep.csv")
    assert list(rows[0]) == ["job", "overrides", "cost_seconds", *COLUMNS]
    assert len(rows) == sum(len(job.results) for job in jobs) == 24
    assert rows[-1]["job"] == "5"
    assert rows[-1]["overrides"] == "cluster.k=16 clusterfit.seed=2"
    assert float(rows[-1]["cost_seconds"]) == 26.0
    assert (tmp_path / "failed.csv").read_text() == "job,overrides,error,log\n"


def test_failed_jobs_are_listed_with_their_log_and_others_are_not(tmp_path: Path) -> None:
    write_jobs(tmp_path, ks=(4,))
    write_run(tmp_path / "3", [], "cluster.k=-3", status="failed", error="no,\n<b>such</b> k")
    (tmp_path / "3" / "job.log").write_text("why")
    write_run(tmp_path / "4", [], "cluster.k=8", status="running")
    write_sweep(tmp_path)
    (row,) = read_csv(tmp_path / "failed.csv")
    assert (row["job"], row["overrides"], row["log"]) == ("3", "cluster.k=-3", "3/job.log")
    assert row["error"] == "failed: no,\n<b>such</b> k"
    page = (tmp_path / "report.html").read_text()
    assert "no,\n&lt;b&gt;such&lt;/b&gt; k" in page
    assert 'href="3/job.log"' in page
    assert "not finished" in page


def test_markdown_and_latex_of_known_numbers(tmp_path: Path) -> None:
    table = table_of(read_jobs(job_folders(write_jobs(tmp_path))))
    text = markdown(table).splitlines()
    assert text[0] == "| target | protocol | random | teacher | student k=4 | student k=16 |"
    assert text[2] == "| birds | knn top1 | 10.0 ±2.5 | 31.0 ±2.5 | 31.4 ±2.5 | **32.6 ±2.5** |"
    assert "random, teacher: over the test samples, Wilson; student: over 3 seeds, Student's t" in text[-1]
    cell = r"\textbf{32.6\,{\scriptsize$\pm$2.5}} \\"
    assert r"birds & knn top1 & 10.0\,{\scriptsize$\pm$2.5} & " in latex(table)
    assert cell in latex(table)
    assert r"&  & random & teacher & \multicolumn{2}{c}{student, $k$}" in latex(table)


def test_special_characters_are_escaped_everywhere(tmp_path: Path) -> None:
    for job, lr in enumerate((r"a|b\*_", EVIL)):
        rows = [result("student", 0.3, f"s{job}", target=EVIL), result("teacher", 0.1, "t", target=EVIL)]
        write_run(tmp_path / str(job), rows, f"x={lr}")
    write_run(tmp_path / "2", [], status="failed", error=EVIL)
    write_sweep(tmp_path)
    text = (tmp_path / "sweep.md").read_text()
    assert r"x=a\|b\\\*\_" in text
    assert not re.search(r"(?<!\\)<script", text)
    paper = (tmp_path / "sweep.tex").read_text()
    escaped = r"\textless{}script\textgreater{}alert(1)\textless{}/script\textgreater{}\&\_\$x\_\{100\%\}"
    assert f"{escaped} & knn top1" in paper
    assert r"x=a|b\textbackslash{}*\_" in paper
    body = paper.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert {line.count(" & ") for line in body.strip().splitlines()} == {4}
    page = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    for picture in tmp_path.glob("*.svg"):
        assert "/" not in picture.stem
        ET.parse(picture)


def test_pictures_are_files_and_on_the_page(tmp_path: Path) -> None:
    write_sweep(write_jobs(tmp_path))
    pictures = {file.name for file in tmp_path.iterdir() if file.suffix in (".svg", ".png")}
    assert pictures == {
        f"{name}.{kind}" for name in ("curve_birds_knn_top1", "cost") for kind in ("svg", "png")
    }
    page = (tmp_path / "report.html").read_text()
    charts = [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    assert len(charts) == 2
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "two charts on a page share no id"
    words = " ".join("".join(chart.itertext()) for chart in charts)
    assert "student k=16: 32.6 ±2.5 %" in words
    assert not re.search(r'(src|href)="(?!#|data:|[\w/.]+")', page), "no network"
    assert Image.open(tmp_path / "cost.png").convert("RGB").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("ks", [(64, 64), (4, [4, 16])])
def test_pictures_where_k_has_no_axis(ks: tuple[int | list[int], int | list[int]], tmp_path: Path) -> None:
    for job, k in enumerate(ks):
        rows = [result("student", 0.3, f"s{job}", k), result("teacher", 0.3, "t", k)]
        write_run(tmp_path / str(job), rows, f"a.lr=0.{job + 1}" if ks == (64, 64) else f"cluster.k={k}")
    write_sweep(tmp_path)
    words = "".join(ET.parse(tmp_path / "curve_birds_knn_top1.svg").getroot().itertext())
    for name in ("a.lr=0.1", "a.lr=0.2") if ks == (64, 64) else ("4+16",):
        assert name in words


def test_zero_finished_runs_are_said_so(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    assert "No finished run yet" in (tmp_path / "report.html").read_text()
    write_run(tmp_path / "0", [], status="running")
    write_sweep(tmp_path)
    assert "No finished run yet" in (tmp_path / "report.html").read_text()
    assert read_csv(tmp_path / "sweep.csv") == []


def test_the_terminal_shows_gains_that_are_certain(tmp_path: Path) -> None:
    for seed in (0, 1):
        rows = [result("teacher", 0.3, "t"), result("student", 0.4 + seed / 1000, f"s{seed}")]
        write_run(tmp_path / str(seed), rows, f"seed={seed}")
    file = io.StringIO()
    Console(file=file, width=160).print(sweep_table(read_jobs(job_folders(tmp_path))))
    assert re.search(r"birds +knn top1 +30\.0 ±2\.5 +\* 40\.1 ±0\.6", file.getvalue())


def test_the_logger_is_told_when_all_is_written(tmp_path: Path) -> None:
    seen: list[set[str]] = []

    class Watching(CSVTracker):
        def sweep(self, folder: Path) -> None:
            seen.append({file.name for file in folder.iterdir()})

    write_sweep(write_jobs(tmp_path), Watching())
    assert len(seen) == 1
    assert seen[0] >= {*FILES, "cost.svg"}


def test_two_processes_leave_whole_files(tmp_path: Path) -> None:
    write_jobs(tmp_path)
    program = (
        "import sys; from pathlib import Path; from cf_lightning.report.sweep_page import write_sweep\n"
        "for _ in range(2): write_sweep(Path(sys.argv[1]))\n"
        "heavy = {'torch', 'lightning', 'faiss', 'wandb', 'sklearn', 'torchvision'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    both = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(2)]
    assert [one.wait(120) for one in both] == [0, 0]
    assert not list(tmp_path.glob("*.partial"))
    written = {name: (tmp_path / name).read_bytes() for name in FILES}
    write_sweep(tmp_path)
    assert written == {name: (tmp_path / name).read_bytes() for name in FILES}, "the same each time"


def test_a_chart_takes_its_colours_from_the_page() -> None:
    lines = [Series("a $x$", [1, 10], [0.1, 0.2], [0.0, 0.1], [0.2, 0.3], ["one", "<two>"])]
    figure = line_chart(lines, [Level("t", 0.15, (0.1, 0.2))], x_label="x", y_label="y", log_x=True)
    svg = inline(figure, "n 1", "Title <&>", "what is to be seen")
    chart = ET.fromstring(svg)
    assert chart.get("role") == "img"
    assert {chart.get("aria-labelledby"), chart.get("aria-describedby")} == {"n-1-title", "n-1-desc"}
    assert INK not in svg
    assert "currentColor" in svg
    words = "".join(chart.itertext())
    assert all(word in words for word in ("Title <&>", "<two>", "a $x$"))
    assert all(target[1:].startswith("n-1-") for target in re.findall(r'href="(#[^"]*)"', svg))
