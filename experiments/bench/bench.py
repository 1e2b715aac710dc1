"""``make bench``: how fast and how lean, as ratios of two sides measured in turn on this machine.

Without parts it measures everything. Each figure goes into ``results.csv`` and ``results.md`` when it is
there, in place of the older one; parts that are not measured keep theirs. A part that fails says so in the
table, and the others go on.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import defaults
import embedding
import front_door
import kmeans
import limits
import memory
import pretext
import processes
import profiling
import scale
import student
import throughput
import training
import video
from measuring import Row
from results import Results

import sweeps
import transfer

PARTS = {
    "front_door": front_door.rows,
    "throughput": throughput.rows,
    "defaults": defaults.rows,
    "embedding": embedding.rows,
    "training": training.rows,
    "limits": limits.rows,
    "processes": processes.rows,
    "scale": scale.rows,
    "pretext": pretext.rows,
    "student": student.rows,
    "kmeans": kmeans.rows,
    "memory": memory.rows,
    "transfer": transfer.rows,
    "video": video.rows,
    "sweeps": sweeps.rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default all")
    parser.add_argument(
        "--profile", action="store_true", help="write nothing, print where each side's time goes"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the table")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")

    parts = options.parts or list(PARTS)
    if options.profile:
        for part in parts:
            profile(part)
        return
    results = Results(options.out, PARTS)
    if failed := [part for part in parts if not results.measure(part, rows(part))]:
        sys.exit(f"failed: {', '.join(failed)}")


def rows(part: str) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        yield from PARTS[part](Path(folder))


def profile(part: str) -> None:
    """Print what the profilers tell before each figure, and the figure's name."""
    with tempfile.NamedTemporaryFile("r", prefix="profile_") as told:
        os.environ[profiling.VARIABLE] = told.name
        for row in rows(part):
            print(f"{told.read()}\n== {row.what}", flush=True)


if __name__ == "__main__":
    main()
