"""ClusterFit on a teacher of hashtags: the tags of photos' captions, to objects and to other data sets.

python -m experiments.hashtags --list                           # what would be run
python -m experiments.hashtags --packs PACKS --work FOLDER          # run, or go on
python -m experiments.hashtags --packs PACKS --work FOLDER --show   # tables and plot so far
"""

import argparse
import sys

from experiments.study.command import main
from experiments.study.gains import Study
from experiments.study.jobs import Comparison, Job
from experiments.study.packs import tagged_photos, targets

COMPARISON = Comparison(
    k=(256, 1000),  # 56 and 14 photos a cluster
    contestants=("random", "teacher", "student", "distillation", "teacher_2x"),
    epochs=30,
    batch_size=64,
    minutes=19.0,
)
TARGETS = ["coco_objects", "caltech101", "tiny_imagenet"]
STUDY = Study(
    groups={"hashtags": tuple(f"hashtags_k{k}" for k in COMPARISON.k)},
    columns={
        ("coco_objects", "linear", ""): "COCO objects, mAP",
        ("caltech101", "linear", ""): "Caltech-101",
        ("tiny_imagenet", "linear", ""): "Tiny-ImageNet, 100 classes",
        ("tiny_imagenet", "knn", ""): "Tiny-ImageNet, kNN",
    },
)


def jobs(args: argparse.Namespace) -> list[Job]:
    """Seed after seed: a run stopped anywhere still compares like with like."""
    overrides = (
        *("+experiment=hashtag_r50", "model=torchvision", "model.name=resnet18"),
        *tagged_photos(args.packs),
        *targets(TARGETS, args.packs, args.work),
    )
    return [job for seed in args.seeds for job in COMPARISON.jobs("hashtags", seed, *overrides)]


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, STUDY, jobs))
