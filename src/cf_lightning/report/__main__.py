"""``python -m cf_lightning.report DIR...``: reports of finished runs and sweeps, made anew."""

import argparse
import sys
from pathlib import Path

from cf_lightning.errors import ConfigError, DataError, UserError
from cf_lightning.runs import FILE
from cf_lightning.sweep import job_folders


def main() -> None:
    """Parse the command line; a user's error is one message on stderr and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m cf_lightning.report", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a run's or a multirun's folder")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where a comparison of all of them goes")
    given = parser.parse_args()
    try:
        report(given.folders, given.out)
    except UserError as error:
        sys.exit(str(error))


def report(folders: list[Path], out: Path | None) -> None:
    """Write a run's page, a sweep's files with the pages of its runs, or a comparison of all that is given.

    Args:
        folders: of runs and multiruns.
        out: of a comparison; without it there is one folder, and its report lies in it.

    Raises:
        ConfigError: several folders and no ``out``.
        DataError: there is no run, or none that is finished.
    """
    if out is None and len(folders) > 1:
        raise ConfigError(f"--out DIR is missing: the place for the comparison of {len(folders)} folders")
    if out is None and (folders[0] / FILE).exists():
        _write_page(folders[0])
        return
    runs = [
        run for folder in folders for run in ([folder] if (folder / FILE).exists() else job_folders(folder))
    ]
    if not runs:
        raise DataError(f"{', '.join(map(str, folders))}: no run's folder (with {FILE}) and no multirun's")
    _write_tables(runs, folders[0], out)


def _write_page(run: Path) -> None:
    from cf_lightning.report.run_page import write_run_report

    print(f"wrote {write_run_report(run)}")


def _write_tables(runs: list[Path], sweep: Path, out: Path | None) -> None:
    """The comparison, or the sweep with its runs' pages; says what came out and what was left out."""
    from rich.console import Console

    from cf_lightning.report.sweep_page import write_comparison, write_sweep
    from cf_lightning.report.sweep_table import sweep_table
    from cf_lightning.sweep import read_jobs

    if out is None:
        for job in read_jobs(runs):
            if job.run:
                _write_page(job.folder)
    jobs = write_comparison(runs, out) if out else write_sweep(sweep)
    done = [job for job in jobs if job.problem is None]
    if done:
        Console(width=None if sys.stdout.isatty() else 160).print(sweep_table(jobs))
    for job in jobs:
        if job.problem:
            print(f"left out: {job.folder}: {job.problem}")
    print(f"wrote {(out or sweep) / 'report.html'}, with sweep.csv, .md and .tex, failed.csv and pictures")
    if not done:
        raise DataError(f"{out or sweep}: none of {len(jobs)} runs is finished")


if __name__ == "__main__":
    main()
