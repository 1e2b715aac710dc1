"""What a person can do wrong on the command line: one message, no traceback, nothing run."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Cli

CASES = {
    "unknown experiment": (["+experiment=hashtag_r51"], r"experiment/hashtag_r51.*demo"),
    "unknown key": (["+experiment=demo", "cluster.kk=3"], r"cluster\.kk"),
    "unknown key added": (["+experiment=demo", "+cluster.kk=3"], r"cluster\.kk=3: no such setting.*\bk\b"),
    "unknown nested key": (
        ["+experiment=demo", "+cluster.engine.iteration=3"],
        r"cluster\.engine\.iteration=3: no such setting; did you mean iterations\?",
    ),
    "wrong type": (["+experiment=demo", "cluster.k=many"], r"cluster\.k=many: .*integer"),
    "out of range": (
        ["+experiment=demo", "pretrain.epochs=0"],
        r"pretrain\.epochs=0: .*greater than or equal",
    ),
    "two at once": (
        ["+experiment=demo", "cluster.k=0", "extract.dtype=int8"],
        r"(cluster\.k=0|extract\.dtype=int8)",
    ),
    "no root": (
        ["+experiment=demo", "data.root=/no/such/folder"],
        r"data: .*root=/no/such/folder: there is no",
    ),
    "paper without root": (["+experiment=hashtag_r50", "scale=paper"], r"data: root is not set.*"),
    "wrong scale": (["+experiment=demo", "scale=huge"], r"scale=huge"),
    "k above the images": (["+experiment=demo", "cluster.k=2401"], r"cluster.*k=2401.*2400 training"),
    "batch above the images": (["+experiment=demo", "pretrain.batch_size=3000"], r"batch_size=3000.*2400"),
    "no teacher file": (
        ["+experiment=demo", "teacher=file", "teacher.path=/no/w.pth"],
        r"path=/no/w.pth: .*no such",
    ),
    "no such contestant": (
        ["+experiment=demo", "contestant=[techer]"],
        r"Could not load 'contestant/techer'",
    ),
    "float16 on a processor": (
        ["+experiment=demo", "extract.precision=16-mixed", "runtime.accelerator=cpu"],
        r"extract.*precision=16-mixed: float16 is for GPUs",
    ),
    "several nodes": (["+experiment=demo", "runtime.nodes=2"], r"runtime\.nodes=2"),
    "no such layer": (
        ["+experiment=demo", "target_features.layers=[layer9]"],
        r"target_features.*layers=\[layer9\]: the network has no such layer; it has 0, .*",
    ),
    "knn above the images": (
        ["+experiment=demo", "transfer.knn.protocol.k=601"],
        r"transfer\.knn\.protocol\.k=601.*600",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_message_and_nothing_run(case: str, cli: Cli, tmp_path: Path) -> None:
    overrides, message = CASES[case]
    done = cli(*overrides)
    assert done.returncode not in (0, -6, -11)
    assert re.search(message, done.stderr, re.DOTALL), done.stderr
    assert "Traceback" not in done.stderr
    options = [line for line in done.stderr.splitlines() if line.startswith("\t")]  # that there are instead
    assert len(done.stderr.splitlines()) - len(options) < 12
    assert not list((tmp_path / "store").glob("*/*"))


def test_a_folder_without_images_and_a_manifest_without_tags(
    cli: Cli, tmp_path: Path, image_folder: Callable[..., Path]
) -> None:
    (tmp_path / "empty").mkdir()
    empty = cli("+experiment=demo", "data=folder", f"data.root={tmp_path / 'empty'}")
    assert empty.returncode
    assert re.search(r"data: .*empty.*no ", empty.stderr), empty.stderr
    root = image_folder(per_class=2)
    (root / "tags.csv").write_text("path,words\nred/000.png,a b\n")
    column = cli("+experiment=demo", f"data.root={root}", "data.columns.tags=hashtags")
    assert column.returncode
    assert re.search(r"tags.csv.*hashtags.*words", column.stderr, re.DOTALL), column.stderr
    tagless = cli("+experiment=demo", "data=folder", f"data.root={root}", "pretrain.batch_size=2")
    assert re.search(r"pretrain .*0 tags.*min_count", tagless.stderr, re.DOTALL), tagless.stderr
    for done in (empty, column, tagless):
        assert "Traceback" not in done.stderr


def test_a_store_below_a_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    done = cli("+experiment=demo")
    assert done.returncode
    assert re.search(r"runtime\.store=.*cannot be written.*set runtime\.store=FOLDER", done.stderr), (
        done.stderr
    )
    assert "Traceback" not in done.stderr


def test_a_bare_call_lists_the_experiments(cli: Cli, tmp_path: Path) -> None:
    import subprocess
    import sys

    line = [sys.executable, "-m", "cf_lightning"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "hashtag_r50" in done.stdout
    assert "demo" in done.stdout
    assert not list(tmp_path.iterdir())
