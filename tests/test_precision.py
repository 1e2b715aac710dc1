"""An arithmetic that the machine does not have is refused before anything runs."""

import re
from typing import Any

import pytest
import torch

from cf_lightning import precision
from cf_lightning.errors import ConfigError
from cf_lightning.precision import Precision, check_precision, resolve_precision
from cf_lightning.runtime import Runtime

CPU = Runtime(accelerator="cpu")
SLURM: Any = {"accelerator": "cpu", "devices": 1, "slurm": {}}


def without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)


def test_bf16_without_a_processor_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    without_bf16(monkeypatch)
    with pytest.raises(ConfigError, match=r"bf16-mixed: this machine's processor has no bf16.*auto"):
        check_precision("bf16-mixed", CPU)
    assert resolve_precision("auto", "cpu") == "32-true"


def test_float16_on_a_processor() -> None:
    with pytest.raises(ConfigError, match=re.escape("precision=16-mixed: float16 is for GPUs")):
        check_precision("16-mixed", CPU)


@pytest.mark.parametrize("asked", ["auto", "32-true", "bf16-mixed"])
def test_what_the_machine_has(asked: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda kind: True)
    check_precision(asked, CPU)
    assert resolve_precision(asked, "cpu") == ("bf16-mixed" if asked == "auto" else asked)


def test_nodes_of_a_slurm_job_may_have_what_this_machine_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    without_bf16(monkeypatch)
    check_precision("bf16-mixed", Runtime(**SLURM))
