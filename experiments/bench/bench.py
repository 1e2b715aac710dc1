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
import memory
import pretext
import student
import throughput
import torch
import video
from measuring import Row

import sweeps
import transfer
from cf_lightning.precision import resolve_precision

PARTS = {
    "front_door": front_door.rows,
    "throughput": throughput.rows,
    "defaults": defaults.rows,
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
HEADER = ("what", "median (range of rounds)", "target", "met", "ours against theirs")


def main() -> None:
    start = time.monotonic()
    measured = []
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        for part in sys.argv[1:] or PARTS:
            for row in PARTS[part](Path(folder)):
                print(" | ".join(row.cells()), flush=True)
                measured.append(row)
    if not sys.argv[1:]:
        minutes = (time.monotonic() - start) / 60
        Path(__file__).with_name("results.md").write_text(report(measured, minutes))


def report(measured: list[Row], minutes: float) -> str:
    """The table, and where and when it was taken."""
    lines = [HEADER, ("---",) * len(HEADER), *(row.cells() for row in measured)]
    table = [f"| {' | '.join(cells)} |" for cells in lines]
    facts = [f"- {fact}" for fact in (*machine(), f"measured in {minutes:.1f} minutes")]
    head = ["# Bench", "", "Written by `make bench`; what each line is: [README.md](README.md).", ""]
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
