"""A stage that needs more memory than there is ends with its batch, and with one that takes less."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from cf_lightning.config import build
from cf_lightning.errors import ConfigError
from cf_lightning.features import FeatureExtractionModule
from cf_lightning.memory import enough_for
from cf_lightning.pipeline import run

CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB of which "
    "1.20 GiB is free. Including non-PyTorch memory, this process has 77.90 GiB memory in use. Of the ..."
)
SAID = r"out of memory \(CUDA out of memory. Tried .* 79\.15 GiB of which 1\.20 GiB is free\); "
CASES: dict[str, tuple[str, list[str], str]] = {
    "extraction": ("extract", [], SAID + r"batch_size=256 .*take batch_size=128$"),
    "training": (
        "pretrain",
        ["pretrain.batch_size=256", "pretrain.accumulate=2"],
        SAID + r"batch_size=256 .*with 128 samples at once on .* take accumulate=4, that is 64 at once$",
    ),
    "odd batches": ("pretrain", ["pretrain.batch_size=27"], r"take accumulate=3, that is 9 at once$"),
    "mixed halves": (
        "pretrain",
        ["pretrain.batch_size=6", "pretrain.mix.mixup=0.2"],
        r"take accumulate=3, that is 2 at once$",
    ),
    "devices": (
        "pretrain",
        ["pretrain.batch_size=64", "runtime.devices=4"],
        r"with 16 samples at once on each device: take accumulate=2, that is 8 at once$",
    ),
    "no smaller pass": (
        "pretrain",
        ["pretrain.batch_size=4", "runtime.devices=4"],
        r"take a smaller batch_size or smaller crops$",
    ),
    "probe": ("transfer.linear", [], r"protocol\.batch_size=256 .*take protocol\.batch_size=128$"),
    "clusters": ("cluster", [], r"end what else uses this memory, or take a machine with more of it$"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_takes_less(case: str, compose: Callable[..., dict[str, Any]]) -> None:
    place, overrides, message = CASES[case]
    node: Any = compose("+experiment=demo", "runtime.accelerator=cpu", *overrides)
    node["extract"]["model"] = node["model"]
    for name in place.split("."):
        node = node[name]
    with pytest.raises(ConfigError, match=message), enough_for(build(node, place)):
        raise torch.OutOfMemoryError(CUDA)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("Error in cudaMalloc(&p, size) failed: cudaMalloc error out of memory [2]"),
    ],
)
def test_other_ways_to_say_it(error: Exception) -> None:
    with pytest.raises(ConfigError, match=r"^out of memory"), enough_for(None):
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes do not fit$"), enough_for(None):
        raise RuntimeError("shapes do not fit")


def test_a_run_says_which_stage(
    compose: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError(CUDA)

    monkeypatch.setattr(FeatureExtractionModule, "predict_step", full)
    options = ["rounds=0", "contestant=[random]", "runtime.accelerator=cpu", "runtime.progress=false"]
    given = ["teacher=torchvision", "teacher.name=resnet18", "teacher.pretrained=false"]
    cfg = OmegaConf.create(compose("+experiment=demo", *options, *given))
    message = r"^target_features \(random on species\): out of memory \(CUDA out .*take batch_size=128$"
    with pytest.raises(ConfigError, match=message):
        run(cfg)
