"""A whole run with ``logger=wandb``, offline: what its files hold, and what the dashboard asks of them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cf_lightning.results import Result, read_results, write_csv, write_results
from cf_lightning.runs import Run
from cf_lightning.tracking.dashboard import build
from cf_lightning.tracking.wandb import WandbTracker
from cf_lightning.tracking.wandb_service import end_service
from cf_lightning.worker import run_stage
from wandb_files import Logged, only, read_runs

DEMO = (
    "+experiment=demo",
    "runtime.accelerator=cpu",
    "pretrain.epochs=1",
    "clusterfit.epochs=1",
    "target=[species]",
    "transfer=[knn]",
    "contestant=[teacher,student]",
    "cluster.k=8",
    "cluster_report.stability=0",
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run and its store."""
    folder = tmp_path_factory.mktemp("wandb")
    line = [sys.executable, "-m", "cf_lightning", *DEMO, "logger=wandb"]
    line += [f"runtime.store={folder / 'store'}", f"hydra.run.dir={folder / 'run'}"]
    environment = os.environ | {"WANDB_MODE": "offline"}
    done = subprocess.run(
        line, capture_output=True, text=True, cwd=folder, env=environment, check=False, timeout=800
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def stages(place: Path) -> list[Logged]:
    return [run for run in read_runs(place / "run") if run.run.job_type != "results"]


@pytest.fixture(autouse=True)
def _no_service_is_left() -> Iterator[None]:
    yield
    end_service()


def manifests(place: Path) -> dict[Path, dict[str, Any]]:
    files = (place / "store").glob("*/*/manifest.json")
    return {file.parent: json.loads(file.read_text()) for file in files}


def test_every_stage_is_one_finished_run(place: Path, stages: list[Logged]) -> None:
    made = {folder for folder in manifests(place) if folder.parent.name != "index"}
    assert {logged.run.display_name for logged in stages} == {f"{m.parent.name}-{m.name[:8]}" for m in made}
    assert len(stages) == len(made)
    assert {logged.exit_code for logged in stages} == {0}
    assert {logged.run.run_group for logged in stages} == {"demo"}
    assert all(logged.run.display_name.startswith(f"{logged.run.job_type}-") for logged in stages)


def test_a_logger_is_no_part_of_a_key(place: Path) -> None:
    line = [sys.executable, "-m", "cf_lightning", *DEMO, "~logger", "plan=true"]
    line += [f"runtime.store={place / 'store'}", f"hydra.run.dir={place / 'plan'}"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=place, check=True)
    assert "; 0 of " in done.stdout


def test_the_config_is_the_stage_s_with_its_key_inputs_and_overrides(
    place: Path, stages: list[Logged]
) -> None:
    known = {folder.name: manifest for folder, manifest in manifests(place).items()}
    for logged in stages:
        manifest = known[logged.config["key"]]
        assert manifest["config"].items() <= logged.config.items()
        assert logged.config["inputs"] == manifest["inputs"]
        assert set(DEMO) <= set(logged.config["overrides"])
    assert only(stages, "pretrain").config["seed"] == 0


def test_curves_and_facts_are_those_of_the_artifacts(place: Path, stages: list[Logged]) -> None:
    (cluster,) = (place / "store" / "cluster").glob("*/inertia.csv")
    inertia = [float(line.split(",")[1]) for line in cluster.read_text().splitlines()[1:]]
    logged = only(stages, "cluster")
    assert logged.curve("kmeans/inertia") == pytest.approx(inertia)
    assert logged.curve("trainer/global_step") == list(range(1, len(inertia) + 1))
    facts = json.loads((cluster.parent / "facts.json").read_text())
    assert facts.items() <= logged.summary.items()
    for stage in ("pretrain", "clusterfit"):
        (history,) = (place / "store" / stage).glob("*/history.csv")
        names, values = (line.split(",") for line in history.read_text().splitlines())
        expected = dict(zip(names, map(float, values), strict=True))
        assert only(stages, stage).curve("val/top1") == pytest.approx([expected["val/top1"]])
        assert only(stages, stage).curve("train/loss_step")


def test_clusters_are_a_table_with_images_and_pictures(place: Path, stages: list[Logged]) -> None:
    logged = only(stages, "cluster_report")
    (report,) = (place / "store" / "cluster_report").glob("*/report.json")
    assert logged.summary["sizes"] == json.loads(report.read_text())["sizes"], "a picture has its own name"
    rows = logged.table("tables/clusters")
    assert len(rows) == 8
    assert sum(row["train"] for row in rows) == 2400
    for name in ("pictures/sizes", "pictures/sheet_1"):
        with Image.open(logged.folder / "files" / logged.summary[name]["path"]) as image:
            assert image.width > 100
    (table,) = logged.tables.values()
    files = {entry.path: Path(entry.local_path) for entry in table.manifest.contents}
    content = json.loads(files["tables/clusters.table.json"].read_text())
    for row in content["data"]:
        cells = dict(zip(content["columns"], row, strict=True))
        for column in ("nearest", "random", "farthest"):
            file = files[cells[column]["path"]]
            assert file.is_relative_to(place / "run"), "it waits there for `wandb sync`"
            with Image.open(file) as image:
                assert image.height == 96


def test_artifacts_lead_from_the_data_to_the_scores(place: Path, stages: list[Logged]) -> None:
    digests = {name: artifact.digest for logged in stages for name, artifact in logged.outputs.items()}
    assert len(digests) == len(stages)
    for logged in stages:
        (output,) = logged.outputs.values()
        assert output.type == logged.run.job_type
        assert json.loads(output.metadata)["key"] == logged.config["key"]
        expected = {
            path.replace("/", "-")[: path.index("/") + 9] for path in logged.config["inputs"].values()
        }
        assert set(logged.inputs) == expected
        for name, artifact in logged.inputs.items():
            assert artifact.user_created, "its reader is not its maker"
            assert name.startswith("index-") or artifact.digest == digests[name], "the same version"
    for output in (artifact for logged in stages for artifact in logged.outputs.values()):
        for entry in output.manifest.contents:
            file = Path(entry.ref.removeprefix("file://"))
            assert file.is_relative_to(place / "store")
            assert file.stat().st_size == entry.size
            assert not entry.local_path, "only a reference"
    features = only(stages, "extract").outputs.popitem()[1]
    assert "features.npy" in {entry.path for entry in features.manifest.contents}


def test_the_results_are_one_run_however_often_they_are_shown(place: Path) -> None:
    folder = place / "run"
    (folder / "report.html").write_text("<p>a report</p>")
    run, results = Run.read(folder), read_results(folder)
    WandbTracker().results(folder, run, results)
    first = only(read_runs(folder), "results")
    WandbTracker().results(folder, run, results)
    logged = only(read_runs(folder), "results")
    assert logged.run.run_id == first.run.run_id
    assert logged.exit_code == 0
    assert logged.run.run_group == "demo"
    rows = logged.table("tables/results")
    assert [row["value"] for row in rows] == [result.value for result in results]
    assert [row["transfer_key"] for row in rows] == [result.transfer_key for result in results]
    top1 = {result.contestant: result.value for result in results if result.metric == "top1"}
    (layer,) = {result.layer for result in results}
    name = f"gain/species/knn/{layer}/top1"
    assert logged.summary[name] == pytest.approx(top1["student"] - top1["teacher"])
    assert logged.summary[f"{name}/low"] < logged.summary[name] < logged.summary[f"{name}/high"]
    gains = {row["metric"]: row for row in logged.table("tables/gains")}
    assert gains["top1"]["gain"] == pytest.approx(logged.summary[name])
    assert gains["top1"]["k"] == 8
    assert [row["key"] for row in logged.table("tables/stages")] == [step.key for step in run.steps]
    report = logged.folder / "files" / logged.summary["report"]["path"]
    assert "a report" in report.read_text()


def sweep_folder(place: Path, folder: Path) -> Path:
    """Jobs with k of 8 and 16 and their sweep.csv: the run, with students that are better."""
    run, results = Run.read(place / "run"), read_results(place / "run")
    rows: list[dict[str, Any]] = []
    for job, k in enumerate((8, 16)):
        better = [_with_k(result, k) for result in results]
        (folder / str(job)).mkdir(parents=True)
        write_results(folder / str(job), better)
        run.model_copy(update={"overrides": [f"cluster.k={k}"]}).write(folder / str(job))
        rows += [{"job": job, "overrides": f"cluster.k={k}", **vars(result)} for result in better]
    write_csv(folder / "sweep.csv", list(rows[0]), rows)
    Image.new("RGB", (200, 100)).save(folder / "curve_species_knn_top1.png")
    return folder


def _with_k(result: Result, k: int) -> Result:
    if result.contestant != "student":
        return result
    made = {"k": k, "value": 0.5 + k / 100, "transfer_key": f"{result.transfer_key}{k}"}
    return Result(**(vars(result) | made))


def test_a_sweep_is_one_run_with_curves_over_k(place: Path, tmp_path: Path) -> None:
    folder = sweep_folder(place, tmp_path / "sweep_1")
    WandbTracker().sweep(folder)
    WandbTracker().sweep(folder)
    (logged,) = read_runs(folder)
    assert (logged.run.job_type, logged.run.run_group) == ("sweep", "demo/sweep_1")
    assert logged.summary["done"] == 2
    assert [row["job"] for row in logged.table("tables/sweep")] == [0, 0, 0, 0, 1, 1, 1, 1]
    teacher = next(
        result.value
        for result in read_results(place / "run")
        if result.contestant == "teacher" and result.metric == "top1"
    )
    (curve,) = [name for name in logged.summary if name.startswith("curve/")]
    layer = curve.split("/")[3]
    lines = {(row["lineKey"], row["step"]): row["lineVal"] for row in logged.table(curve)}
    assert lines == {
        ("student", 8): pytest.approx(0.58),
        ("student", 16): pytest.approx(0.66),
        ("teacher", 8): teacher,
        ("teacher", 16): teacher,
    }
    gains = {(row["lineKey"], row["step"]): row["lineVal"] for row in logged.table("gain_over_k_table")}
    assert set(gains) == {(f"species knn {layer} top1 student", k) for k in (8, 16)}
    assert gains[f"species knn {layer} top1 student", 16] == pytest.approx(0.66 - teacher)
    assert "pictures/curve_species_knn_top1" in logged.summary


def asked_for(panel: Any) -> set[str]:
    """The names that a panel of the dashboard reads."""
    kind = type(panel).__name__
    if kind == "LinePlot":
        return {panel.x, *panel.y}
    if kind == "BarPlot":
        return {metric.name for metric in panel.metrics}
    if kind == "MediaBrowser":
        return set(panel.media_keys)
    if kind == "WeavePanelSummaryTable":
        return {panel.table_name}
    assert kind == "CustomChart"
    return {panel.query["summaryTable"]["tableKey"]}


def test_every_panel_of_the_dashboard_shows_what_is_logged(
    place: Path, stages: list[Logged], tmp_path: Path
) -> None:
    folder = place / "run"
    WandbTracker().results(folder, Run.read(folder), read_results(folder))
    sweep = sweep_folder(place, tmp_path / "sweep")
    WandbTracker().sweep(sweep)
    runs = [*stages, only(read_runs(folder), "results"), *read_runs(sweep)]
    grids = [block for block in build("somebody", "something").blocks if type(block).__name__ == "PanelGrid"]
    assert len(grids) == 6
    for grid in grids:
        job_type = grid.runsets[0].name
        assert grid.runsets[0].filters == f"JobType = '{job_type}'"
        logged = only(runs, job_type)
        for panel in grid.panels:
            assert asked_for(panel) <= logged.names, job_type
            if type(panel).__name__ == "CustomChart":
                (table,) = asked_for(panel)
                assert set(panel.chart_fields.values()) <= set(logged.table(table)[0])


def test_only_rank_zero_has_a_run(place: Path, tmp_path: Path) -> None:
    (folder,) = (place / "store" / "space").glob("*/manifest.json")
    manifest = json.loads(folder.read_text())
    job = {
        "node": manifest["config"],
        "inputs": {name: str(place / "store" / path) for name, path in manifest["inputs"].items()},
    }
    job["node"]["runtime"]["run_dir"] = str(tmp_path / "run")
    for rank, runs in (("1", 0), ("0", 1)):
        out = tmp_path / rank / "space" / "key.partial"
        out.mkdir(parents=True)
        (out / "job.json").write_text(json.dumps(job))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RANK", rank)
            run_stage(out)
        assert len(read_runs(tmp_path / "run")) == runs
