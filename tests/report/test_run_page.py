import base64
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cf_lightning.errors import DataError
from cf_lightning.report.page import duration, number
from cf_lightning.report.run_page import write_run_report
from cf_lightning.results import gain, write_results
from sample_run import colour, result, sample_run

EVIL = "</script><script>alert(1)</script><b>&'\""


class Read(HTMLParser):
    """Tags, ids, and the text of every cell of tables and of the whole page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.text = page.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.in_cell = False
        self.feed(self.text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attributes if name == "id"]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] not in (["script"], ["style"]):
            self.words.append(data)
        if self.in_cell:
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data.strip()}".strip()

    def said(self) -> str:
        return " ".join(" ".join(self.words).split())

    def galleries(self) -> list[dict[str, Any]]:
        found = re.findall(r'<script type="application/json">(.*?)</script>', self.text, re.DOTALL)
        return [json.loads(one) for one in found]


def report(folder: Path) -> Read:
    return Read(write_run_report(folder))


def test_the_table_has_the_numbers_of_the_results(tmp_path: Path) -> None:
    folder = sample_run(tmp_path)
    rows = [
        result(who, target=target)
        for target in ("one", "two")
        for who in ("random", "teacher", "student")
        if (who, target) != ("random", "two")
    ]
    write_results(folder, [*rows, result("student", "top5")])
    page = report(folder)
    difference, low, high = gain(rows[1], rows[2])
    change = f"{100 * difference:+.1f} * ±{50 * (high - low):.1f}"
    table = [row for row in page.rows if row[:1] in (["one"], ["two"])]
    assert table == [
        ["one", "knn top1", "12.5 ±3.1", "25.0 ±3.1", "50.0 ±3.1", change, "1,234"],
        ["two", "knn top1", "-", "25.0 ±3.1", "50.0 ±3.1", change, "1,234"],
    ]
    assert "one: 3 undecodable samples left out" in page.said()
    assert "photos.zip" in page.said()
    assert "900 train, 100 val" in page.said()


def test_what_ran_and_how_to_have_it_again(tmp_path: Path) -> None:
    page = report(sample_run(tmp_path, sweep="/some/sweep"))
    said = page.said()
    assert "2 January 2026, 03:04 UTC · took 1 min 15 s" in said
    assert "python -m cf_lightning +experiment=sample 'target=[one,two]'" in said
    assert "at commit abc" in said
    assert ["pretrain", "teacher", "↺ cached", "12 s", "teacher"] in page.rows
    assert ["clusterfit", "student on clusters", "ran", "12 s", "student"] in page.rows
    assert "50 s were spent on what ran here; 12 s of earlier work" in said
    assert said.count("train from 3.5 to 2.5; val from 3.6 to 2.75, in 2 epochs.") == 2


def test_each_cluster_has_its_own_pictures_and_words(tmp_path: Path) -> None:
    (found,) = report(sample_run(tmp_path, ks=[30])).galleries()
    assert found["cluster"] == [*range(29, -1, -1)], "the largest first"
    assert found["size"] == [*range(30, 1, -1), 0]
    for cluster, size, radius, names, strips in zip(
        *(found[name] for name in ("cluster", "size", "radius", "names", "strips")), strict=True
    ):
        if cluster == 0:
            assert (radius, names, strips) == (None, [], None)
            continue
        assert radius == pytest.approx(1 / (1 + size), rel=1e-3)
        assert names[1][0] == f"tag{cluster}"
        for picture in strips[:2]:
            with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
                mean = np.asarray(image.convert("RGB")).mean(axis=(0, 1))
            assert mean == pytest.approx(colour(cluster), abs=12)
        assert strips[2] is None


def test_several_clusterings_share_a_page(tmp_path: Path) -> None:
    page = report(sample_run(tmp_path, ks=[4, 9]))
    assert [len(one["cluster"]) for one in page.galleries()] == [4, 9]
    assert len(page.ids) == len(set(page.ids))
    assert "k 4, 9" in page.said()


def test_headings_are_in_order_and_nothing_is_fetched(tmp_path: Path) -> None:
    page = report(sample_run(tmp_path))
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    without_names = re.sub(r'xmlns(:xlink)?="[^"]*"', "", page.text)
    assert not re.search(r"https?://|@import|<script src", without_names)
    assert page.tags.count("caption") == page.tags.count("table") == 3


def test_ten_thousand_clusters_stay_below_30_megabytes(tmp_path: Path) -> None:
    file = write_run_report(sample_run(tmp_path, ks=[10_000], pictured=1000, noise=15_000, tag="é" * 200))
    assert 20e6 < file.stat().st_size < 30e6
    page = Read(file)
    (found,) = page.galleries()
    assert len(found["cluster"]) == 10_000
    pictured = sum(strips is not None for strips in found["strips"])
    assert 100 < pictured < 1000
    assert all(found["strips"][:pictured]), "the largest have theirs"
    assert f"Pictures of {pictured:,} clusters are kept here" in page.said()


def test_names_are_only_names(tmp_path: Path) -> None:
    harmless = report(sample_run(tmp_path / "harmless"))
    folder = sample_run(
        tmp_path / "evil",
        **{"experiment": EVIL, "error": EVIL, "status": "failed", "overrides": [EVIL], "tag": EVIL[:60]},
        environment={EVIL: EVIL},
    )
    write_results(folder, [result("student", target=EVIL, protocol=EVIL)])
    page = report(folder)
    for tag in ("script", "b"):
        extra = {"script": 0, "b": 1}[tag]  # the error's heading
        assert page.tags.count(tag) == harmless.tags.count(tag) + extra
    assert EVIL not in page.text
    assert page.galleries()[0]["names"][0][0][0] == EVIL[:60]
    assert page.said().count("alert(1)") > 4


def test_a_failed_run_has_its_error_on_top(tmp_path: Path) -> None:
    folder = sample_run(
        tmp_path, status="failed", error="data.root=x: there is no such folder", objective=None
    )
    (folder / "results.json").unlink()
    record = json.loads((folder / "run.json").read_text())
    record["steps"][-1]["seconds"] = None
    (folder / "run.json").write_text(json.dumps(record))
    page = report(folder)
    said = page.said()
    assert said.index("The run failed. data.root=x") < said.index(
        "a run writes it when its last stage is done"
    )
    assert ["clusterfit", "student on clusters", "not made", "-", "student"] in page.rows


@pytest.mark.parametrize("status", ["failed", "running"])
def test_a_run_that_came_to_nothing_has_a_page(status: str, tmp_path: Path) -> None:
    folder = sample_run(tmp_path, status=status, steps=[], objective=None, environment={})
    (folder / "results.json").unlink()
    page = report(folder)
    assert ("is not finished" in page.said()) == (status == "running")
    assert page.galleries() == []


@pytest.mark.parametrize("what", ["store", "store/pretrain", "store/cluster", "store/cluster_report/report5"])
def test_what_is_gone_is_left_out_and_named(what: str, tmp_path: Path) -> None:
    folder = sample_run(tmp_path)
    shutil.rmtree(tmp_path / what)
    page = report(folder)
    assert "eft out, for its artifact" in page.said()
    assert str(tmp_path / what) in page.said()
    assert bool(page.galleries()) == (what == "store/pretrain")
    assert any(row[:2] == ["one", "knn top1"] for row in page.rows)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "pretrain/teacher/history.csv",
            "cluster/cluster5/inertia.csv",
            "cluster_report/report5/report.json",
        ),
        *("cluster_report/report5/gallery.parquet", "cluster_report/report5/manifest.json"),
        *("index/data/manifest.json", "clusterfit/student/manifest.json"),
    ],
)
def test_what_is_damaged_is_not_shown_and_named(name: str, tmp_path: Path) -> None:
    folder = sample_run(tmp_path)
    file = tmp_path / "store" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    page = report(folder)
    assert f"{file} was changed after it was made" in page.said()
    assert bool(page.galleries()) == ("cluster" not in name.split("/")[0] or "clusterfit" in name)
    assert any(row[:2] == ["one", "knn top1"] for row in page.rows)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run's folder"):
        write_run_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_page_needs_none_of_the_heavy_libraries(tmp_path: Path) -> None:
    heavy = {"torch", "lightning", "faiss", "torchvision", "wandb"}
    code = "import sys; from pathlib import Path; from cf_lightning.report.run_page import write_run_report;"
    code += f"write_run_report(Path(sys.argv[1])); print(*{heavy} & {{*sys.modules}})"
    line = [sys.executable, "-c", code, str(sample_run(tmp_path))]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.04, "0.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (61, "1 min 01 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_seconds_are_said_as_a_person_says_them(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_numbers_have_four_digits() -> None:
    assert [number(value) for value in (None, float("nan"), 12345, 0.123456, 14.279, 2.0)] == [
        *("-", "-", "12,345"),
        *("0.1235", "14.28", "2"),
    ]
