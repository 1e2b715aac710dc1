"""The results: one row for each measured number, and the files that hold them."""

import csv
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from cf_lightning.errors import DataError


@dataclass(frozen=True)
class Result:
    """One measured number of one contestant; the fields are the columns of ``results.csv``.

    Attributes:
        experiment: the experiment's name.
        contestant: whose features: ``random``, ``teacher``, ``student``, ...
        target: the data it was measured on.
        protocol: how: ``linear``, ``knn``, ...
        layer: the layer that the features are of.
        metric: ``top1``, ``top5``, ...
        value: the measured fraction in [0, 1].
        ci_low: lower end of its 95 % interval over the test samples.
        ci_high: upper end.
        n_test: the test samples.
        k: clusters; several for a student with several heads, in the CSV as 4000+16000.
        seed: the run's seed.
        seconds: what the transfer stage took when it ran.
        pretrain_key: the artifact behind it; one for each teacher, null where the contestant has none.
        extract_key: likewise.
        cluster_key: likewise; one for each k.
        clusterfit_key: likewise.
        transfer_key: likewise.
        details: the protocol's settings, what was tuned and on what, the samples left out.
    """

    experiment: str
    contestant: str
    target: str
    protocol: str
    layer: str
    metric: str
    value: float
    ci_low: float
    ci_high: float
    n_test: int
    k: int | list[int] | None
    seed: int
    seconds: float
    pretrain_key: str | list[str] | None
    extract_key: str | list[str] | None
    cluster_key: str | list[str] | None
    clusterfit_key: str | None
    transfer_key: str | None
    details: dict[str, Any]


STUDENTS = ("student", "student_warm")  # trained from scratch, or from the teacher's weights: a run has one
COLUMNS = tuple(field.name for field in fields(Result))


def write_results(folder: Path, results: Sequence[Result]) -> None:
    """Write ``results.csv`` (for people) and ``results.json`` (with types), each in one atomic step."""
    rows = [asdict(result) for result in results]
    write_csv(folder / "results.csv", COLUMNS, rows)
    replace_file(folder / "results.json", json.dumps(rows, indent=1))


def write_csv(file: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write rows in one atomic step; what a list holds has a plus between, a dict is JSON."""
    text = StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    replace_file(file, text.getvalue())


def replace_file(file: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    partial = file.with_name(file.name + ".partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(partial, file)


def read_results(folder: Path) -> list[Result]:
    """What ``write_results`` wrote.

    Raises:
        DataError: there is no ``results.json`` or it is something else.
    """
    file = folder / "results.json"
    try:
        return TypeAdapter(list[Result]).validate_json(file.read_bytes(), strict=True)
    except FileNotFoundError:
        raise DataError(
            f"{file}: there is no such file; a run writes it when its last stage is done"
        ) from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise DataError(f"{file}: not a result file ({where}: {problem['msg']})") from None


def objective(results: Sequence[Result]) -> float | None:
    """The student's mean top-1 or mAP over targets and protocols, in [0, 1]; ``None`` where it has none.

    What a Hydra sweeper such as Optuna's maximises. It is measured on the targets' test splits: whoever
    searches with it reports on other targets than those that were searched on.
    """
    values = [one.value for one in results if one.contestant in STUDENTS and one.metric in ("top1", "map")]
    return sum(values) / len(values) if values else None


class Panel(NamedTuple):
    """What a row of the table measures."""

    target: str
    protocol: str
    layer: str
    metric: str


def panel_of(result: Result) -> Panel:
    """What a row of the table measures."""
    return Panel(result.target, result.protocol, result.layer, result.metric)


def is_shown(metric: str) -> bool:
    """Whether tables and pictures have it; top-5 is only in the files."""
    return not metric.startswith("top5")


def gain(before: Result, after: Result) -> tuple[float, float, float]:
    """The difference of two fractions and its 95 % interval.

    From a paired bootstrap where ``before`` is the teacher of the same run. Else from the intervals of both
    (Newcombe 1998, method 10), which takes them as independent: conservative for the same samples.

    Returns:
        Difference, lower end, upper end.
    """
    difference = after.value - before.value
    paired = after.details.get("minus_teacher")
    if paired and before.contestant == "teacher":
        return difference, paired["ci_low"], paired["ci_high"]
    down = ((after.value - after.ci_low) ** 2 + (before.ci_high - before.value) ** 2) ** 0.5
    up = ((after.ci_high - after.value) ** 2 + (before.value - before.ci_low) ** 2) ** 0.5
    return difference, difference - down, difference + up


def student_of(contestants: Iterable[str]) -> str | None:
    """Whom the teacher is compared with: the run's student, if there is a teacher, too."""
    names = set(contestants)
    return next((name for name in STUDENTS if {"teacher", name} <= names), None)


def table_rows(results: Sequence[Result]) -> dict[tuple[str, str], dict[str, Result]]:
    """The results of each row of the table, by contestant; the layer is named where there are several."""
    several = len({result.layer for result in results}) > 1
    rows: dict[tuple[str, str], dict[str, Result]] = {}
    for result in results:
        layer = f"{result.layer} " if several else ""
        row = rows.setdefault((result.target, f"{result.protocol} {layer}{result.metric}"), {})
        if result.contestant in row:
            raise ValueError(f"{result.contestant} is there twice on {result.target}: a table shows one run")
        row[result.contestant] = result
    return rows


def notes(results: Sequence[Result]) -> list[str]:
    """What a reader of the table has to know: samples that were left out, teachers that know nothing."""
    skipped = {result.target: result.details.get("skipped", 0) for result in results}
    lines = [f"{target}: {count} undecodable samples left out" for target, count in skipped.items() if count]
    random = {name for result in results for name in result.details.get("not pre-trained", "").split()}
    return lines + [f"{name}: random weights (teacher.pretrained=false)" for name in sorted(random)]


def cell(value: Any) -> Any:
    """A CSV cell: what a list holds with a plus between, JSON where the value has more structure."""
    if isinstance(value, list):
        return "+".join(map(str, value))
    return json.dumps(value) if isinstance(value, dict) else value
