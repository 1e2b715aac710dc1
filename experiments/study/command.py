"""The command line of every study: run what is not done, then write the tables and the plot."""

import argparse
from collections.abc import Callable
from pathlib import Path

from experiments.study.gains import Study
from experiments.study.jobs import Job, parser, run
from experiments.study.packs import write_manifests


def main(file: str, doc: str, study: Study, jobs: Callable[[argparse.Namespace], list[Job]]) -> int:
    """The exit code.

    Args:
        file: of the study; its tables and its plot are written beside it.
        doc: for ``--help``.
        study: what is compared.
        jobs: of ``args.packs``, ``args.work`` and ``args.seeds``.
    """
    told = parser(doc)
    told.add_argument(
        "--show", action="store_true", help="only write the tables and the plot of what is there"
    )
    args = told.parse_args()
    args.packs, args.work = args.packs.resolve(), args.work.resolve()
    code = 0
    if not args.show:
        if not args.list:
            write_manifests(args.packs, args.work)
        code = run(jobs(args), args)
    study.write(args.work, Path(file).parent)
    return code
