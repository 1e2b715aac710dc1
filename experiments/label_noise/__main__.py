"""The paper's control study: the more wrong labels a teacher had, the more its student gains?

python -m experiments.label_noise --list                           # what would be run
python -m experiments.label_noise --packs PACKS --work FOLDER          # run, or go on
python -m experiments.label_noise --packs PACKS --work FOLDER --show   # tables and plot so far
"""

import argparse
import sys

from experiments.study.command import main
from experiments.study.gains import Study
from experiments.study.jobs import Comparison, Job
from experiments.study.packs import known_classes, targets

NOISE = (0.5, 0.0)
COMPARISON = Comparison(
    k=(500, 1000),  # ten and twenty times the teacher's labels: 20 and 10 images a cluster
    contestants=("random", "teacher", "student", "distillation", "teacher_2x"),
    epochs=40,
    batch_size=64,
    minutes=17.0,
)
TARGETS = ["other_classes", "own_classes", "caltech101"]
STUDY = Study(
    groups={f"noise {p}": tuple(f"noise_{p}_k{k}" for k in COMPARISON.k) for p in NOISE},
    columns={
        ("other_classes", "linear", ""): "50 other classes",
        ("own_classes", "linear", ""): "own 50 classes, clean",
        ("caltech101", "linear", ""): "Caltech-101",
        ("other_classes", "knn", ""): "50 other classes, kNN",
    },
)


def jobs(args: argparse.Namespace) -> list[Job]:
    """Seed after seed: a run stopped anywhere still compares like with like."""
    found = []
    for seed in args.seeds:
        for noise in NOISE:
            overrides = (
                *("+experiment=label_noise_r50", "model=torchvision", "model.name=resnet18"),
                *known_classes(args.packs, args.work),
                *targets(TARGETS, args.packs, args.work),
                f"pretrain.noise={noise}",
            )
            found += COMPARISON.jobs(f"noise_{noise}", seed, *overrides)
    return found


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, STUDY, jobs))
