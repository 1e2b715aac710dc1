"""``make bench``: how fast and how lean, as ratios of two sides measured in turn on this machine.

``bench.py`` measures everything and writes ``results.md``; ``bench.py front_door memory`` measures these
parts and only prints.
"""

import datetime
import importlib.metadata
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import defaults
import front_door
import limits
import memory
import pretext
import processes
import scale
import student
import throughput
import torch
import training
import video

import sweeps
import transfer
from cf_lightning.precision import resolve_precision

PARTS = {
    "front_door": front_door.rows,
    "throughput": throughput.rows,
    "defaults": defaults.rows,
    "training": training.rows,
    "limits": limits.rows,
    "processes": processes.rows,
    "scale": scale.rows,
    "pretext": pretext.rows,
    "student": student.rows,
    "memory": memory.rows,
    "transfer": transfer.rows,
    "video": video.rows,
    "sweeps": sweeps.rows,
}
PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "av",
    "torchcodec",
    "faiss-gpu",
    "faiss-cpu",
    "numpy",
    "hydra-core",
)
HEADER = ("part", "what", "median (range of rounds)", "target", "met", "ours against theirs")


def main() -> None:
    start = time.monotonic()
    measured: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        for part in sys.argv[1:] or PARTS:
            for row in PARTS[part](Path(folder)):
                measured.append((f"`{part}`", *row.cells()))
                print(" | ".join(measured[-1]), flush=True)
    if not sys.argv[1:]:
        minutes = (time.monotonic() - start) / 60
        Path(__file__).with_name("results.md").write_text(report(measured, minutes))


def report(measured: list[tuple[str, ...]], minutes: float) -> str:
    """The table, and where and when it was taken."""
    lines = [HEADER, ("---",) * len(HEADER), *measured]
    table = [f"| {' | '.join(cells)} |" for cells in lines]
    facts = [f"- {fact}" for fact in (*machine(), f"measured in {minutes:.1f} minutes")]
    head = [
        "# Bench",
        "",
        "Written by `make bench`; `.venv/bin/python experiments/bench/bench.py PART` measures one part and",
        "prints it. What each line is, and why some miss their target: [README.md](README.md).",
        "",
    ]
    return "\n".join([*head, *table, "", *facts, ""])


def machine() -> list[str]:
    """Date, processors, memory, versions."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")), "?")
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    versions = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return [
        f"{datetime.date.today()}, {platform.system()} on {platform.machine()}",
        f"{len(os.sched_getaffinity(0))} cores of {name}, {memory_bytes / 2**30:.0f} GiB of memory",
        f"GPU: {torch.cuda.get_device_name() if torch.cuda.is_available() else 'none'}",
        f"`precision=auto` on the CPU: {resolve_precision('auto', 'cpu')}",
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {versions[name]}" for name in PACKAGES if name in versions),
    ]


if __name__ == "__main__":
    main()
