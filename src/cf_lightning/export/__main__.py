"""``python -m cf_lightning.export RUN``: a run's student as safetensors, with a model card, and as ONNX."""

import argparse
import sys
from pathlib import Path

from cf_lightning.errors import DataError, UserError
from cf_lightning.results import read_results
from cf_lightning.runs import Run, RunStep


def main() -> None:
    """Parse the command line; a user's error is one message on stderr and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m cf_lightning.export", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run's folder")
    parser.add_argument("--contestant", default="student", metavar="NAME", help="whose (%(default)s)")
    parser.add_argument("--to", type=Path, metavar="DIR", help="a new folder (RUN/CONTESTANT)")
    parser.add_argument("--onnx", action="store_true", help="model.onnx, too (cf-lightning[onnx])")
    given = parser.parse_args()
    try:
        print(f"wrote {export(given.run, given.contestant, given.to, given.onnx)}")
    except UserError as error:
        sys.exit(str(error))


def export(run_folder: Path, contestant: str, to: Path | None, onnx: bool) -> Path:
    """Write a contestant's network into a new folder.

    Raises:
        DataError: the run has no such contestant, its weights are gone, or the folder is there already.
    """
    run, results = Run.read(run_folder), read_results(run_folder)
    own = [result for result in results if result.contestant == contestant]
    if not own:
        names = ", ".join(dict.fromkeys(result.contestant for result in results))
        raise DataError(f"--contestant {contestant}: the run in {run_folder} has {names}")
    step = _trunk(run, {result.transfer_key for result in own})
    if step is None:
        raise DataError(f"--contestant {contestant}: its weights are random ones: there is nothing to export")
    folder = to or run_folder / contestant
    if folder.exists():
        raise DataError(f"--to {folder}: is there already; remove it or name another folder")

    from cf_lightning.export.folder import write

    return write(folder, run, step, own, onnx)


def _trunk(run: Run, transfer_keys: set[str | None]) -> RunStep | None:
    """The step whose trunk was measured; ``None`` for random weights."""
    steps = run.by_key()
    step = next(step for step in run.steps if step.stage == "transfer" and step.key in transfer_keys)
    if "features" in step.inputs:
        step = steps[step.inputs["features"]]
    return steps.get(step.inputs.get("trunk", ""))


if __name__ == "__main__":
    main()
