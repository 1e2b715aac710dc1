"""Where a figure was measured: processors, memory, versions."""

import datetime
import importlib.metadata
import os
import platform
from functools import cache
from pathlib import Path

import torch

from cf_lightning.precision import resolve_precision

PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "av",
    "torchcodec",
    "faiss-gpu",
    "faiss-cpu",
    "scikit-learn",
    "lightly",
    "numpy",
    "hydra-core",
)


@cache
def hardware() -> str:
    """Cores, memory and GPU, in one line."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")), "?")
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    flags = next((line for line in cpuinfo if line.startswith("flags")), "")
    bf16 = " and ".join(flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags) or "no bf16"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return (
        f"{len(os.sched_getaffinity(0))} cores of {name} with {bf16}, "
        f"{memory_bytes / 2**30:.0f} GiB of memory, GPU: {gpu}, "
        f"`precision=auto` on the CPU: {resolve_precision('auto', 'cpu')}"
    )


@cache
def software() -> str:
    """System, Python and packages, in one line."""
    versions = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    packages = (f"{name} {versions[name]}" for name in PACKAGES if name in versions)
    return f"{platform.system()} on {platform.machine()}, Python {platform.python_version()}, " + ", ".join(
        packages
    )


def machine() -> list[str]:
    """Date, machine and versions."""
    return [str(datetime.date.today()), hardware(), software()]
