"""Fixtures: every test has a store of its own, small coloured images whose class is their colour, no W&B key."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("WANDB_API_KEY", "RANK", "LOCAL_RANK", "WORLD_SIZE", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    before = dict(os.environ)
    yield
    leaked = {name for name in os.environ if name not in before} - {"PYTEST_CURRENT_TEST"}
    known = {"CUDA_MODULE_LOADING", "TORCHINDUCTOR_CACHE_DIR", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"}
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
