"""One table of transfer: random weights, a teacher, its student and MobileNetV2, by every protocol.

Two commands of the framework, one after the other. It may be stopped at any time and goes on where it was
when it is started again: what the store holds is not computed again.

python -m experiments.student_options.student_options --packs PACKS --work FOLDER --options baseline --seeds 0
python experiments/transfer_suite/transfer_suite.py --packs PACKS --work FOLDER --weights WEIGHTS
python experiments/transfer_suite/summarise.py FOLDER
"""

import argparse
import subprocess
import sys
from pathlib import Path

PROTOCOLS = (
    *("linear", "logreg", "svm", "low_shot", "knn", "retrieval"),
    *("finetune_10percent", "finetune"),
)
TARGETS = {
    "caltech101": "caltech101_72.zip",
    "tiny_imagenet": "tinyimagenet_a100_64.zip",
    "coco_objects": "coco_tags_64.zip",
}
FINETUNE = ("epochs=10", "batch_size=64")


def shared(args: argparse.Namespace) -> list[str]:
    """What both commands say: targets at the size of the teacher's training, and protocols."""
    protocols = args.protocols or PROTOCOLS
    chosen = [f"transfer=[{','.join(protocols)}]", f"target=[{','.join(TARGETS)}]"]
    chosen += [f"target.{name}.root={args.packs / pack}" for name, pack in TARGETS.items()]
    chosen += [f"target.{name}.view.{side}" for name in TARGETS for side in ("resize=40", "crop=32")]
    chosen += [f"target.tiny_imagenet.manifest={args.work / 'other.csv'}"]
    chosen += [f"transfer.{name}.{one}" for name in protocols if "finetune" in name for one in FINETUNE]
    return [*chosen, f"runtime.store={args.work / 'artifacts'}", *args.overrides]


def commands(args: argparse.Namespace) -> dict[str, list[str]]:
    """The chain as ``student_options`` has it, seed 0, and somebody else's network."""
    tiny = args.packs / TARGETS["tiny_imagenet"]
    chain = [
        *("+experiment=label_noise_r50", "model=torchvision", "model.name=resnet18"),
        *("data=manifest", f"data.root={tiny}", f"data.manifest={args.work / 'known.csv'}"),
        *("data.view.resize=40", "data.view.crop=32", "pretrain.epochs=40", "pretrain.batch_size=64"),
        *("cluster.k=500", "clusterfit.epochs=10", "clusterfit.batch_size=64"),
        "contestant=[random,teacher,student]",
    ]
    given = [
        *("+experiment=evaluate", "teacher=file", "teacher.name=mobilenet_v2"),
        *(f"teacher.path={args.weights}", "contestant=[teacher]"),
    ]
    return {"chain": chain, "mobilenet_v2": given}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of both commands, such as plan=true")
    parser.add_argument("--packs", type=Path, default=Path(), help="folder of " + ", ".join(TARGETS.values()))
    parser.add_argument("--work", type=Path, default=Path(), help="the one of student_options.py")
    parser.add_argument("--weights", type=Path, default=Path("mobilenet_v2-b0353104.pth"))
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, help="default: all")
    args = parser.parse_args()
    for name, command in commands(args).items():
        folder = f"hydra.run.dir={args.work / 'suite' / name}"
        line = [sys.executable, "-m", "cf_lightning", *command, *shared(args), folder]
        if subprocess.run(line).returncode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
