"""Fixtures: a store for each test, small images whose class is their colour, no W&B key."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from cf_lightning.config import conf_dir, register_resolvers

COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("WANDB_API_KEY", "RANK", "LOCAL_RANK", "WORLD_SIZE", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    before = dict(os.environ)
    yield
    leaked = {name for name in os.environ if name not in before} - {"PYTEST_CURRENT_TEST"}
    # set by torch and lightning when they are imported
    known = {
        "CUDA_MODULE_LOADING",
        "KMP_DUPLICATE_LIB_OK",
        "KMP_INIT_AT_FORK",
        "PYTORCH_NVML_BASED_CUDA_CHECK",
        "TORCHINDUCTOR_CACHE_DIR",
        "_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR",
    }
    for name in leaked:
        del os.environ[name]
    assert not leaked - known, f"the test left {leaked - known} in the environment"


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Make ``root/<class>/<number>.png``, 20 px; classes are colours with noise."""

    def make(per_class: int = 20, name: str = "images", seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        root = tmp_path / name
        for colour, rgb in COLOURS.items():
            (root / colour).mkdir(parents=True)
            for number in range(per_class):
                pixels = np.clip(np.array(rgb) + rng.normal(0, 40, (20, 20, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(root / colour / f"{number:03d}.png")
        return root

    return make


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    from torch import distributed

    distributed.init_process_group("gloo", f"file://{tmp_path / 'ranks'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., list[str]]:
    """The command line of a run with its own store and run folder."""

    def make(*overrides: str, store: str = "store", run: str = "run") -> list[str]:
        places = [f"runtime.store={tmp_path / store}", f"hydra.run.dir={tmp_path / run}"]
        return [sys.executable, "-m", "cf_lightning", *overrides, *places]

    return make


@pytest.fixture
def cli(command: Callable[..., list[str]], tmp_path: Path) -> Cli:
    """Run the program; stdout and stderr are text."""

    def run(*overrides: str, **places: str) -> subprocess.CompletedProcess[str]:
        line = command(*overrides, **places)
        return subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=800)

    return run


def scores(folder: Path) -> list[dict[str, str]]:
    """The rows of results.csv without what differs between two runs of the same thing."""
    with open(folder / "results.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture
def compose(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The resolved configuration that the command line would have, with places of the test's own."""

    def make(*overrides: str) -> dict[str, Any]:
        register_resolvers()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            places = [f"runtime.store={tmp_path / 'store'}", f"runtime.run_dir={tmp_path / 'run'}"]
            cfg = hydra_compose("config", [*overrides, *places])
        node = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        assert isinstance(node, dict)
        return node  # type: ignore[return-value]

    return make
