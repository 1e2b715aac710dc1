"""ClusterFit on a teacher of hashtags: the tags of photos' captions, to objects and to other data sets.

python -m experiments.hashtags --list                           # what would be run
python -m experiments.hashtags --packs PACKS --work FOLDER          # run, or go on
python -m experiments.hashtags --packs PACKS --work FOLDER --show   # tables and plot so far
"""

import argparse
import sys

from experiments.study.command import main
from experiments.study.gains import Study
from experiments.study.jobs import Job
from experiments.study.packs import tagged_photos, targets

K = (256, 1000)  # 56 and 14 photos a cluster
EPOCHS, BATCH_SIZE = 30, 64  # of teacher and student alike
TRAINING = 19.0  # minutes of one on a core of its own
TARGETS = ["coco_objects", "caltech101", "tiny_imagenet"]
STUDY = Study(
    groups={"hashtags": tuple(f"hashtags_k{k}" for k in K)},
    columns={
        ("coco_objects", "linear", ""): "COCO objects, mAP",
        ("caltech101", "linear", ""): "Caltech-101",
        ("tiny_imagenet", "linear", ""): "Tiny-ImageNet, 100 classes",
        ("tiny_imagenet", "knn", ""): "Tiny-ImageNet, kNN",
    },
)


def jobs(args: argparse.Namespace) -> list[Job]:
    """Seed after seed: a run stopped anywhere still compares like with like."""
    found = []
    for seed in args.seeds:
        for k in K:
            # those that know no k are measured once, beside the first
            rows = "random,teacher,student,distillation,teacher_2x" if k == K[0] else "student"
            overrides = (
                *("+experiment=hashtag_r50", "model=torchvision", "model.name=resnet18"),
                *tagged_photos(args.packs),
                *targets(TARGETS, args.packs, args.work),
                *(f"pretrain.epochs={EPOCHS}", f"clusterfit.epochs={EPOCHS}"),
                *(f"pretrain.batch_size={BATCH_SIZE}", f"clusterfit.batch_size={BATCH_SIZE}"),
                *(f"cluster.k={k}", f"contestant=[{rows}]", f"seed={seed}"),
            )
            trainings = 5 if k == K[0] else 1
            found.append(Job(f"hashtags_k{k}", seed, overrides, trainings * TRAINING))
    return found


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, STUDY, jobs))
