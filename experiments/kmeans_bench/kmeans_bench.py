"""``make bench-kmeans``: our k-means against faiss's, both sides in turn on this machine.

Without parts it measures everything and writes results.md; with some, such as ``speed race``, it only prints.
"""

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "bench"))

import faiss
import footprint
import gpu
import race
import speed
import sweep
import torch
from fits import SEEDS
from machine import machine
from problem import SIDE, Problem, real, synthetic
from table import Row, markdown

from cf_lightning.clustering.kernel import kernels
from cf_lightning.runtime import Runtime

NUM_ROWS, DIM, K = 100_000, 256, 1000
PARTS = ("speed", "race", "sweep", "memory", "gpu")


class Bench:
    """The parts, and the problems that they share."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options

    def rows(self, part: str) -> Iterator[Row]:
        match part:
            case "speed" | "race":
                module = {"speed": speed, "race": race}[part]
                for problem in (self.iso, self.feat, self.real):
                    yield from module.rows(problem) if problem else module.unmeasured("real")
            case "sweep":
                yield from sweep.rows(self.feat)
            case "memory":
                yield from footprint.rows(self.folder)
            case "gpu":
                yield from gpu.rows(self.folder)

    @cached_property
    def iso(self) -> Problem:
        return synthetic("iso", self.folder / "iso.npy", NUM_ROWS, DIM, K)

    @cached_property
    def feat(self) -> Problem:
        return synthetic("feat", self.folder / "feat.npy", NUM_ROWS, DIM, K)

    @cached_property
    def real(self) -> Problem | None:
        pack, manifest, weights = self.options.pack, self.options.manifest, self.options.weights
        return None if pack is None else real(self.folder, pack, manifest, weights)

    def facts(self) -> list[str]:
        """Where, when, and of what the table was taken."""
        threads = f"{torch.get_num_threads()} threads on either side"
        amx = "with" if speed.has_amx() else "without"
        compiled = ", ".join(kernel.precision for kernel in kernels()) or "none"
        seeds = ", ".join(map(str, SEEDS))
        return [
            *machine(),
            f"{threads}; goals of a processor {amx} AMX; compiled kernels: {compiled}",
            f"one round for each of the seeds {seeds}, after one to warm up; the data are those of seed 0",
            f"real: {self._images()}",
        ]

    def _images(self) -> str:
        pack, weights = self.options.pack, self.options.weights
        if pack is None:
            return "not measured, for no --pack was given"
        made_by = "random weights (seed 0)"
        if weights is not None:
            made_by = f"{weights.name}, sha256 {hashlib.sha256(weights.read_bytes()).hexdigest()[:12]}"
        return f"{pack.name} at {SIDE} pixels, ResNet-50 with {made_by}, L2-normalised features"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; default all")
    parser.add_argument("--pack", type=Path, help="zip file or folder of images with a manifest")
    parser.add_argument("--manifest", default="index.csv", help="its name there (%(default)s)")
    parser.add_argument("--weights", type=Path, help="state dict of a ResNet-50; default random weights")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")

    start = time.monotonic()
    torch.set_num_threads(Runtime(devices=1, accelerator="cpu").num_threads())
    faiss.omp_set_num_threads(torch.get_num_threads())
    measured = []
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        bench = Bench(Path(folder), options)
        for part in options.parts or PARTS:
            for row in bench.rows(part):
                print(" | ".join(row.cells()), flush=True)
                measured.append(row)
    if not options.parts:
        minutes = f"measured in {(time.monotonic() - start) / 60:.1f} minutes"
        page = markdown(measured, [*bench.facts(), minutes])
        Path(__file__).with_name("results.md").write_text(page)


if __name__ == "__main__":
    main()
