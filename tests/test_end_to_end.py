"""The program as a person starts it: the table, what is cached, loggers."""

import csv
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Cli, scores

SHORT = ("+experiment=demo", "runtime.accelerator=cpu", "pretrain.epochs=1", "clusterfit.epochs=1")
ONE_ROW = ("target=[species]", "transfer=[knn]", "contestant=[student]")
COLUMNS = (
    "experiment,contestant,target,protocol,layer,metric,value,ci_low,ci_high,n_test,k,seed,seconds,"
    "pretrain_key,extract_key,cluster_key,clusterfit_key,transfer_key,details"
)


def artifacts(folder: Path) -> dict[str, int]:
    """How many finished artifacts each stage has."""
    found: dict[str, int] = {}
    for manifest in folder.glob("*/*/manifest.json"):
        found[manifest.parent.parent.name] = found.get(manifest.parent.parent.name, 0) + 1
    return found


def states(stdout: str) -> list[str]:
    """Of each stage's line, whether it ran or was cached."""
    return re.findall(r"^\w+ +(ran|cached) +[\d.]+ s", stdout, re.MULTILINE)


@pytest.mark.slow
def test_the_demo_from_nothing_and_again_from_the_store(
    cli: Cli, command: Callable[..., list[str]], tmp_path: Path
) -> None:
    first = cli(*SHORT)
    assert first.returncode == 0, first.stderr
    assert set(states(first.stdout)) == {"ran"}
    assert "student - teacher" in first.stdout
    with open(tmp_path / "run" / "results.csv", newline="") as file:
        assert file.readline().strip() == COLUMNS
    rows = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {row["contestant"] for row in rows} == {"random", "teacher", "student"}
    assert {row["target"] for row in rows} == {"species", "scenes"}
    assert {row["experiment"] for row in rows} == {"demo"}
    assert all(0 <= row["ci_low"] <= row["value"] <= row["ci_high"] <= 1 for row in rows)
    assert all(row["pretrain_key"] is None for row in rows if row["contestant"] == "random")
    assert list((tmp_path / "run" / "logs").glob("pretrain-*/metrics.csv")), "logger=csv is the default"

    line = command(*SHORT, run="again")
    again = subprocess.run(
        [line[0], "-X", "importtime", *line[1:]], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert set(states(again.stdout)) == {"cached"}
    imported = {part.split("|")[-1].strip() for part in again.stderr.splitlines()}
    assert not imported & {"torch", "lightning", "faiss", "torchvision", "wandb"}
    assert scores(tmp_path / "run") == scores(tmp_path / "again")


@pytest.mark.slow
def test_broken_images_are_left_out_listed_and_counted_or_named(
    cli: Cli, tmp_path: Path, image_folder: Callable[..., Path]
) -> None:
    root = image_folder(per_class=30)
    (root / "red" / "003.png").write_bytes((root / "red" / "003.png").read_bytes()[:60])
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(root / "blue" / "gray.png")
    data = ("data=folder", f"data.root={root}", "pretrain=supervised", "pretrain.batch_size=16")
    small = (*SHORT, *ONE_ROW, *data, "clusterfit.batch_size=16", "cluster.k=4")
    failed = cli(*small)
    assert failed.returncode
    assert re.search(r"red/003.png cannot be decoded .*data\.on_error=skip", failed.stderr), failed.stderr
    assert "Traceback" not in failed.stderr
    done = cli(*small, "data.on_error=skip")
    assert done.returncode == 0, done.stderr
    manifest = json.loads(next((tmp_path / "store" / "extract").glob("*/manifest.json")).read_text())
    assert manifest["facts"]["skipped"] == ["red/003.png"]
    assert re.search(r"extract .*skipped=1\b", done.stdout)
    labels = np.load(next((tmp_path / "store" / "cluster").glob("*/labels.npy")))
    assert (labels == -1).sum() == 1


@pytest.mark.slow
def test_a_row_of_the_table_follows_from_the_contestants_asked_for(cli: Cli, tmp_path: Path) -> None:
    done = cli(*SHORT, "target=[scenes]", "transfer=[knn]", "contestant=[teacher]", "cluster.k=8")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "run" / "results.csv", newline="") as file:
        assert {row["contestant"] for row in csv.DictReader(file)} == {"teacher"}


@pytest.mark.slow
def test_the_table_shows_each_layer(image_folder: Callable[..., Path], cli: Cli, tmp_path: Path) -> None:
    done = cli(
        *("+experiment=demo", f"data.root={image_folder(24)}", "data=folder", "contestant=[random]"),
        *("pretrain=supervised", "model=torchvision", "model.name=resnet18", "rounds=0", "target=[species]"),
        *("transfer=[knn,linear]", "target_features.layers=[layer3,layer4]"),
        *("transfer.linear.protocol.epochs=2", "runtime.accelerator=cpu"),
    )
    assert done.returncode == 0, done.stderr
    rows = scores(tmp_path / "run")
    assert {(row["protocol"], row["layer"]) for row in rows} == {
        (protocol, layer) for protocol in ("knn", "linear") for layer in ("layer3", "layer4")
    }
    assert "knn layer4 top1" in " ".join(done.stdout.split())
    assert json.loads((tmp_path / "run" / "run.json").read_text())["objective"] is None
    assert "mean top-1" not in (tmp_path / "run" / "report.html").read_text(), "there is no student"
