"""The paper's control study: the more wrong labels a teacher had, the more its student gains?

python -m experiments.label_noise --list                           # what would be run
python -m experiments.label_noise --packs PACKS --work FOLDER          # run, or go on
python -m experiments.label_noise --packs PACKS --work FOLDER --show   # tables and plot so far
"""

import argparse
import sys

from experiments.study.command import main
from experiments.study.gains import Study
from experiments.study.jobs import Job
from experiments.study.packs import known_classes, targets

NOISE = (0.5, 0.0)
K = (500, 1000)  # ten and twenty times the teacher's labels: 20 and 10 images a cluster
EPOCHS, BATCH_SIZE = 40, 64  # of teacher and student alike
TRAINING = 17.0  # minutes of one on a core of its own
TARGETS = ["other_classes", "own_classes", "caltech101"]
STUDY = Study(
    groups={f"noise {p}": tuple(f"noise_{p}_k{k}" for k in K) for p in NOISE},
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
            for k in K:
                # those that know no k are measured once, beside the first
                rows = "random,teacher,student,distillation,teacher_2x" if k == K[0] else "student"
                overrides = (
                    *("+experiment=label_noise_r50", "model=torchvision", "model.name=resnet18"),
                    *known_classes(args.packs, args.work),
                    *targets(TARGETS, args.packs, args.work),
                    *(f"pretrain.noise={noise}", f"pretrain.epochs={EPOCHS}", f"clusterfit.epochs={EPOCHS}"),
                    *(f"pretrain.batch_size={BATCH_SIZE}", f"clusterfit.batch_size={BATCH_SIZE}"),
                    *(f"cluster.k={k}", f"contestant=[{rows}]", f"seed={seed}"),
                )
                trainings = 5 if k == K[0] else 1
                found.append(Job(f"noise_{noise}_k{k}", seed, overrides, trainings * TRAINING))
    return found


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, STUDY, jobs))
