"""What each option of the student brings: runs ``options.py``, seed after seed, two jobs at a time.

It may be stopped at any time and goes on where it was when it is started again. Seed 0 of all options comes
first.

python -m experiments.student_options.student_options --list
python -m experiments.student_options.student_options --packs PACKS --work FOLDER
python -m experiments.student_options.summarise FOLDER
"""

import argparse
import sys

from experiments.student_options.options import BASELINE, BATCH_SIZE, EPOCHS, OPTIONS, K, Option
from experiments.study.jobs import Job, parser, run
from experiments.study.packs import CALTECH, SIZE, TINY_IMAGENET, known_classes, write_manifests

MINUTES = 5.0  # of the paper's student on a core of its own, transfer included; to estimate with
TEACHER = 40  # epochs


def job(option: Option, seed: int, args: argparse.Namespace) -> Job:
    """An option with a seed of the student: there is one teacher and one clustering."""
    rows = "random,teacher,student" if option is BASELINE else "student"
    places = ("target.tiny_imagenet", "target.caltech101")
    overrides = (
        *("+experiment=label_noise_r50", "model=torchvision", "model.name=resnet18"),
        *known_classes(args.packs, args.work),
        "target=[tiny_imagenet,caltech101]",
        *(
            f"{place}.root={args.packs / pack}"
            for place, pack in zip(places, (TINY_IMAGENET, CALTECH), strict=True)
        ),
        f"target.tiny_imagenet.manifest={args.work / 'other.csv'}",  # the classes that are not known
        *(f"{place}.view.{side}" for place in places for side in SIZE),
        *(f"pretrain.epochs={TEACHER}", f"pretrain.batch_size={BATCH_SIZE}", f"cluster.k={K}"),
        *(f"clusterfit.epochs={EPOCHS}", f"clusterfit.batch_size={BATCH_SIZE}"),
        *(f"contestant=[{rows}]", f"clusterfit.seed={seed}", *option.overrides.split()),
    )
    return Job(option.name, seed, overrides, MINUTES * option.cost)


def main() -> int:
    told = parser(__doc__)
    told.add_argument("--options", nargs="+", default=[option.name for option in OPTIONS], metavar="NAME")
    args = told.parse_args()
    if unknown := set(args.options) - {option.name for option in OPTIONS}:
        told.error(f"no such option: {', '.join(sorted(unknown))}")
    args.packs, args.work = args.packs.resolve(), args.work.resolve()
    chosen = [option for option in OPTIONS if option is BASELINE or option.name in args.options]
    if not args.list:
        write_manifests(args.packs, args.work)
    return run([job(option, seed, args) for seed in args.seeds for option in chosen], args)


if __name__ == "__main__":
    sys.exit(main())
