"""Names that a shell, a terminal, a page or a spreadsheet would obey, through a whole run and through W&B."""

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
from case import Case, Outcome
from composed import composed
from hostile_code import SECRET
from hostile_place import Place, harm, picture, watching

NAMES = (
    *("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'-alert(1)-'", "{{7*7}}", "${7*7}"),
    *("[red]bold[/red]", "[/]", "\x1b[31mred", "$(touch canary)", "`touch canary`", "; touch canary", "--rm"),
    *(
        '=HYPERLINK("http://evil")',
        "+1+1",
        "@SUM(1)",
        "</title>",
        "..",
        "a/../../b",
        "${oc.env:WANDB_API_KEY}",
    ),
)
KEYS = {"WANDB_API_KEY": SECRET, "AWS_SECRET_ACCESS_KEY": SECRET, "HF_TOKEN": SECRET, "WANDB_MODE": "offline"}
SMALL = (
    *(
        "+experiment=demo",
        "model.width=2",
        "data=manifest",
        "data.manifest=list.parquet",
        "target=[manifest]",
    ),
    *(
        "target.manifest.manifest=list.parquet",
        "target.manifest.view.resize=36",
        "target.manifest.view.crop=32",
    ),
    *("data.view.resize=36", "data.view.crop=32", "transfer=[knn]", "transfer.knn.protocol.k=3"),
    *(
        "contestant=[teacher,student]",
        "pretrain.batch_size=16",
        "pretrain.epochs=1",
        "clusterfit.batch_size=16",
    ),
    *("clusterfit.epochs=1", "pretrain.task.min_count=1", "cluster.k=6", "cluster_report.stability=0"),
    *(
        "cluster_report.gallery.tile=16",
        "runtime.accelerator=cpu",
        "runtime.workers=0",
        "runtime.progress=false",
    ),
)
FORMULA = re.compile(r"[=+\-@\t\r]")  # what a spreadsheet computes when a cell begins with it
TAGS = re.compile(  # of a report; an image would be one that a name has made
    "a|abbr|b|body|button|caption|code|dd|details|div|dl|dt|figcaption|figure|footer|form|h[1-6]|head|header|html|i|"
    "input|label|li|link|main|meta|nav|noscript|ol|option|p|pre|script|section|select|small|span|style|summary|"
    "svg|table|tbody|td|th|thead|time|title|tr"
)


def cases(kind: str) -> Iterator[Case]:
    yield Case(kind, "names in a run", _run)
    yield Case(kind, "names in W&B", _wandb)


def _run(folder: Path) -> Outcome:
    """Labels, tags and files are named so; keys are in the environment."""
    from cf_lightning.pipeline import run

    place = Place.made(folder)
    _write(place)
    places = [f"{name}.root={place.root}" for name in ("data", "target.manifest")]
    places += [f"runtime.{name}={folder / name}" for name in ("store", "run_dir")]
    cfg = composed(*SMALL, *places)
    shown = io.StringIO()
    with patch.dict(os.environ, KEYS), watching() as opened, redirect_stdout(shown), redirect_stderr(shown):
        run(cfg)
    page = (folder / "run_dir" / "report.html").read_text()
    problems = harm(place, opened) + list(_in_page(page)) + list(_in_tables(folder)) + list(_keys(folder))
    problems += ["the terminal was told to obey"] if "\x1b" in shown.getvalue() else []
    problems += ["executed"] if Path("canary").exists() else []
    return Outcome(lost=int(bool(problems)), note="; ".join(problems))


def _write(place: Place) -> None:
    """Pictures with two names each, as bright as the first says, so that clusters have names in common."""
    rows: dict[str, list[Any]] = {"path": [], "split": [], "label": [], "tags": []}
    for number in range(4 * len(NAMES)):
        name, other = NAMES[number % len(NAMES)], NAMES[number // 4]
        path = re.sub(r"[/\x1b]", "", f"{name} {number}.png")
        (place.root / path).write_bytes(picture(40 + 10 * (number % len(NAMES))))
        row = (path, "test" if number % 4 == 0 else "train", [name], [name, other])
        for column, value in zip(rows.values(), row, strict=True):
            column.append(value)
    pq.write_table(pa.table(rows), place.root / "list.parquet")


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attributes if name.startswith("on")]


def _in_page(text: str) -> Iterator[str]:
    """What the report has that nobody of us has written."""
    drawn = re.sub(r"<svg.*?</svg>", "<svg>", text, flags=re.DOTALL)
    page = _Page(drawn)
    yield from (f"<{tag}> in the report" for tag in sorted(set(page.tags)) if not TAGS.fullmatch(tag))
    yield from (f"{handler} in the report" for handler in page.handlers)
    data = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    if page.tags.count("script") != len(data) + 2:
        yield "a script in the report"
    told = {name for one in data for names in json.loads(one)["names"] for name, *_ in names}
    if not told & set(NAMES):
        yield "no name came to the report"


def _in_tables(folder: Path) -> Iterator[str]:
    for file in (folder / "run_dir").rglob("*.csv"):
        with open(file, newline="") as lines:
            for cell in (cell for row in csv.reader(lines) for cell in row):
                if FORMULA.match(cell) and not _is_number(cell):
                    yield f"a formula in {file.name}: {cell}"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _keys(folder: Path) -> Iterator[str]:
    """Files in which a key of the environment has come to lie."""
    for file in folder.rglob("*"):
        if file.is_file() and SECRET.encode() in file.read_bytes():
            yield f"the key is in {file.name}"


def _wandb(folder: Path) -> Outcome:
    """A stage that logs a table of such names, offline and with a key."""
    import wandb

    from cf_lightning.runtime import Runtime
    from cf_lightning.tracking.wandb import WandbTracker
    from cf_lightning.tracking.wandb_service import end_service

    place, out = Place.made(folder), folder / "store" / "cluster_report" / "key.partial"
    out.mkdir(parents=True)
    runtime = Runtime(run_dir=str(folder / "run_dir"), overrides=["cluster.k=8"])
    tracker = WandbTracker(mode="offline")
    with (
        patch.dict(os.environ, KEYS),
        patch.object(wandb, "Html", side_effect=AssertionError("HTML of names")),
    ):
        try:
            with tracker.run("cluster_report", out, runtime, {"k": 8}, {}):
                tracker.show({"k": 8}, {"clusters": [{"top_tags": name} for name in NAMES]}, {})
        finally:
            end_service()
    problems = harm(place, []) + list(_keys(folder))
    tables = [json.loads(file.read_text()) for file in folder.rglob("*.table.json")]
    problems += (
        [] if [[[name] for name in NAMES]] == [table["data"] for table in tables] else ["another table"]
    )
    return Outcome(lost=int(bool(problems)), note="; ".join(problems))
