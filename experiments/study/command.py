"""The command line of every study: run what is not done, then write the tables and the plot."""

import argparse
from collections.abc import Callable
from pathlib import Path

from experiments.study.gains import Study
from experiments.study.jobs import Job, run
from experiments.study.packs import write_manifests


def main(file: str, doc: str, study: Study, jobs: Callable[[argparse.Namespace], list[Job]]) -> int:
    """The exit code.

    Args:
        file: of the study; its tables and its plot are written beside it.
        doc: for ``--help``.
        study: what is compared.
        jobs: of ``args.packs``, ``args.work`` and ``args.seeds``.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of every job, for trials: pretrain.epochs=1")
    parser.add_argument("--packs", type=Path, default=Path(), help="folder of the packs")
    parser.add_argument("--work", type=Path, default=Path(), help="folder of the store, the runs, the logs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="SEED")
    parser.add_argument("--streams", type=int, default=2, help="jobs at a time (%(default)s)")
    parser.add_argument("--list", action="store_true", help="only say what would be run, and how long")
    parser.add_argument(
        "--show", action="store_true", help="only write the tables and the plot of what is there"
    )
    args = parser.parse_args()
    args.packs, args.work = args.packs.resolve(), args.work.resolve()
    code = 0
    if not args.show:
        if not args.list:
            write_manifests(args.packs, args.work)
        code = run(jobs(args), args)
    study.write(args.work, Path(file).parent)
    return code
