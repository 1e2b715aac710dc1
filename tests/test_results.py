import csv
import io
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cf_lightning.errors import DataError
from cf_lightning.results import Result, gain, read_results, write_results
from cf_lightning.results_table import results_table

# DESIGN: people and scripts type these names
COLUMNS = (
    "experiment contestant target protocol layer metric value ci_low ci_high n_test k seed seconds "
    "pretrain_key extract_key cluster_key clusterfit_key transfer_key details"
)


def result(contestant: str = "student", value: float = 0.432, half: float = 0.019, **changes: Any) -> Result:
    given: dict[str, Any] = {
        "experiment": "hashtag_r50",
        "contestant": contestant,
        "target": "birds",
        "protocol": "linear",
        "layer": "pooled",
        "metric": "top1",
        "value": value,
        "ci_low": value - half,
        "ci_high": value + half,
        "n_test": 500,
        "k": 64,
        "seed": 0,
        "seconds": 1.5,
        "pretrain_key": "abc",
        "extract_key": "def",
        "cluster_key": None,
        "clusterfit_key": None,
        "transfer_key": "123",
        "details": {"lr": 0.01, "skipped": 0},
    }
    return Result(**{**given, **changes})


def rendered(results: list[Result], width: int = 160, colours: bool = False) -> str:
    file = io.StringIO()
    Console(file=file, width=width, color_system="standard" if colours else None).print(
        results_table(results)
    )
    return file.getvalue()


def test_round_trip(tmp_path: Path) -> None:
    written = [result(), result("random", k=None, pretrain_key=None), result(k=[16, 32], value=0.1 + 0.2)]
    write_results(tmp_path, [result("teacher")])
    write_results(tmp_path, written)
    assert read_results(tmp_path) == written
    assert sorted(file.name for file in tmp_path.iterdir()) == ["results.csv", "results.json"]


def test_both_files_have_the_columns_that_people_know(tmp_path: Path) -> None:
    assert " ".join(field.name for field in fields(Result)) == COLUMNS
    write_results(tmp_path, [result("random", pretrain_key=None, value=1 / 3)])
    (row,) = csv.DictReader((tmp_path / "results.csv").open())
    (same,) = json.loads((tmp_path / "results.json").read_text())
    assert " ".join(row) == " ".join(same) == COLUMNS
    assert float(row["value"]) == same["value"] == 1 / 3
    assert json.loads(row["details"]) == same["details"] == {"lr": 0.01, "skipped": 0}
    assert (row["pretrain_key"], same["pretrain_key"]) == ("", None)


def test_several_k_have_a_plus_between_in_the_csv_and_are_lists_in_the_json(tmp_path: Path) -> None:
    several = result(k=[4000, 16000], cluster_key=["abc", "def"])
    write_results(tmp_path, [several])
    assert read_results(tmp_path) == [several]
    (row,) = csv.DictReader((tmp_path / "results.csv").open())
    (same,) = json.loads((tmp_path / "results.json").read_text())
    assert (row["k"], row["cluster_key"]) == ("4000+16000", "abc+def")
    assert (same["k"], same["cluster_key"]) == ([4000, 16000], ["abc", "def"])
    assert rendered([several]).splitlines()[0].strip() == "hashtag_r50, k=4000+16000"


def test_reading_what_is_no_result_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"results\.json: there is no such file"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text('[{"experiment": "x"}]')
    with pytest.raises(DataError, match=r"results\.json: not a result file \(0\.contestant"):
        read_results(tmp_path)


def test_table_shows_percent_with_half_the_interval() -> None:
    results = [result("random", 0.1), result("teacher", 0.40), result(), result(metric="top5", value=0.7)]
    lines = rendered([*results, result(target="fish", value=0.2, n_test=90)]).splitlines()
    assert lines[0].strip() == "hashtag_r50, k=64"
    header = next(line for line in lines if "target" in line)
    assert " ".join(header.split()) == "target protocol random teacher student student - teacher n test"
    birds, fish = (next(line for line in lines if line.startswith(f" {name}")) for name in ("birds", "fish"))
    assert " ".join(birds.split()) == "birds linear top1 10.0 ±1.9 40.0 ±1.9 43.2 ±1.9 * +3.2 ±2.7 500"
    assert " ".join(fish.split()) == "fish linear top1 - - 20.0 ±1.9 - 90"
    assert "top5" not in "".join(lines)


def test_gain_as_published() -> None:
    # Newcombe 1998, table II, method 10: 56/70 against 48/80 gives 0.0524 to 0.3339
    after = result(value=56 / 70, ci_low=0.6918, ci_high=0.8770)
    before = result("teacher", value=48 / 80, ci_low=0.4904, ci_high=0.7005)
    difference, low, high = gain(before, after)
    assert difference == pytest.approx(0.2)
    assert [low, high] == pytest.approx([0.0524, 0.3339], abs=2e-4)


@pytest.mark.parametrize(("value", "code"), [(0.5, "1;32m"), (0.3, "1;31m"), (0.41, "2m")])
def test_gain_is_coloured_only_where_it_is_shown(value: float, code: str) -> None:
    text = rendered([result("teacher", 0.40), result(value=value)], colours=True)
    cell = f"{100 * (value - 0.4):+.1f} ±2.7"
    line = next(line for line in text.splitlines() if cell in line)
    assert line.split(cell)[0].rsplit("\x1b[", 1)[1].startswith(code)
    assert ("* " + cell in line) == (code != "2m")


def test_table_without_a_teacher_compares_nothing() -> None:
    text = rendered([result("random", 0.1), result()])
    assert "student - teacher" not in text
    assert "*" not in text


def test_many_contestants_stand_below_each_other_with_what_each_gains() -> None:
    others = ("teacher", "student", "teacher_2x", "distillation")
    results = [result("random", 0.1), *(result(name, 0.4 + 0.02 * i) for i, name in enumerate(others))]
    lines = [" ".join(line.split()) for line in rendered(results, width=80).splitlines()]
    assert "target protocol contestant percent - teacher n test" in lines
    assert "birds linear top1 random 10.0 ±1.9 500" in lines
    assert "teacher 40.0 ±1.9 500" in lines
    assert "teacher_2x 44.0 ±1.9 * +4.0 ±2.7 500" in lines


def test_a_teacher_of_random_weights_is_named() -> None:
    text = rendered([result("teacher", details={"not pre-trained": "teacher"}), result()])
    assert "teacher: random weights (teacher.pretrained=false)" in text


def test_layers_are_named_where_there_are_several() -> None:
    text = rendered([result(layer="layer3"), result(layer="layer4", value=0.5)])
    assert "linear layer3 top1" in text
    assert "linear layer4 top1" in text


def test_skipped_images_are_counted() -> None:
    text = rendered([result(details={"skipped": 3}), result(target="fish")])
    assert "birds: 3 undecodable samples left out" in text
    assert "fish:" not in text


def test_two_runs_in_one_table_are_refused() -> None:
    with pytest.raises(ValueError, match="shows one run"):
        results_table([result(), result(seed=1)])


def test_fits_a_terminal_of_100_columns() -> None:
    results = [result(name, target="something_something_v1") for name in ("random", "teacher", "student")]
    assert "something_something_v1" in rendered(results, width=100)


def test_an_empty_table_renders() -> None:
    assert "no result" in rendered([])
