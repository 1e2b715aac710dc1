"""ClusterFit on a self-supervised teacher, layer by layer: does the last one forget less?

python -m experiments.self_supervised --list                           # what would be run
python -m experiments.self_supervised --packs PACKS --work FOLDER          # run, or go on
python -m experiments.self_supervised --packs PACKS --work FOLDER --show   # tables and plot so far
"""

import argparse
import sys

from experiments.study.command import main
from experiments.study.gains import Study
from experiments.study.jobs import Comparison, Job
from experiments.study.packs import known_classes, targets

PRETEXTS = ("rotation",)  # Jigsaw's puzzles need images of 135 px: seventeen times as long
COMPARISON = Comparison(
    k=(500, 1000),  # 20 and 10 images a cluster
    contestants=("random", "teacher", "student", "teacher_2x"),
    epochs=40,
    batch_size=64,
    minutes=17.0,
)
LAYERS = ("relu", "layer1", "layer2", "layer3", "layer4")  # conv1, res2 to res5
TARGETS = ["other_classes", "caltech101"]
STUDY = Study(
    groups={pretext: tuple(f"{pretext}_k{k}" for k in COMPARISON.k) for pretext in PRETEXTS},
    columns={
        (target, "linear", layer): f"{title}, {layer}"
        for target, title in (("other_classes", "50 other classes"), ("caltech101", "Caltech-101"))
        for layer in LAYERS[2:]
    },
)


def jobs(args: argparse.Namespace) -> list[Job]:
    """Seed after seed: a run stopped anywhere still compares like with like."""
    found = []
    for seed in args.seeds:
        for pretext in PRETEXTS:
            overrides = (
                *("+experiment=rotnet_r50", f"pretrain={pretext}"),
                *("model=torchvision", "model.name=resnet18", "transfer=[linear]"),
                *known_classes(args.packs, args.work),
                *targets(TARGETS, args.packs, args.work),
                f"target_features.layers=[{','.join(LAYERS)}]",
            )
            found += COMPARISON.jobs(pretext, seed, *overrides)
    return found


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, STUDY, jobs))
