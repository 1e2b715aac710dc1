"""What is compared: one change at a time from the paper's student, written down before the first run.

A value is that of the option's source, or the reason stands beside it; none was chosen by a result.
"""

from dataclasses import dataclass

EPOCHS, BATCH_SIZE, K = 10, 64, 500  # of 10,000 images: 1,560 steps, 20 images a cluster
MULTI = "clusterfit.relabel.nearest=8"  # MLCD's l
SAMPLED = "clusterfit.task.head.rate=0.1"  # MLCD's and OneVision-Encoder's share of negatives
COSINE = "clusterfit/head=cosine"  # scale 64, margin 0.3 (OneVision-Encoder)


@dataclass(frozen=True)
class Option:
    """An option.

    Attributes:
        name: of its folder.
        title: for people.
        overrides: of the command, besides those that all have.
        cost: in trainings of the paper's student.
        apart: why it is no comparison at equal budget; empty where it is one.
    """

    name: str
    title: str
    overrides: str = ""
    cost: float = 1.0
    apart: str = ""


BASELINE = Option("baseline", "the paper's student")
OPTIONS = [
    BASELINE,
    Option("label_smoothing", "label smoothing 0.1", "clusterfit.task.loss.label_smoothing=0.1"),
    Option("mixup", "Mixup 0.2", "clusterfit.mix.mixup=0.2"),
    Option("cutmix", "CutMix 1", "clusterfit.mix.cutmix=1.0"),
    Option("rand_augment", "RandAugment 2 x 9", "clusterfit.augmentation.rand_ops=2", cost=1.3),
    # 0.99 looks back 100 steps, two thirds of an epoch; the usual 0.9999 would outlast the training
    Option("ema", "EMA 0.99", "clusterfit.ema=0.99"),
    Option("square_root", "square-root sampling", "clusterfit.task.power=0.5"),
    Option("uniform", "uniform sampling", "clusterfit.task.power=1.0"),
    # half the mean size
    Option("min_size", "clusters of 10 or more", "clusterfit.relabel.min_size=10"),
    Option(
        "min_size_drop",
        "clusters of 10 or more, rest dropped",
        "clusterfit.relabel.min_size=10 clusterfit.relabel.small=drop",
    ),
    Option("nearest_2", "2 nearest, cross-entropy", "clusterfit.relabel.nearest=2"),
    Option("nearest_8", "8 nearest, cross-entropy", MULTI),
    # with the squared distances of unit vectors 0.2 is SwAV's temperature of 0.1 for cosines
    Option("soft", "8 nearest, soft, T = 0.2", f"{MULTI} clusterfit.task.temperature=0.2"),
    Option("mlc", "8 nearest, MLC, cosine, rate 0.1", f"{MULTI} clusterfit/loss=mlc {COSINE} {SAMPLED}"),
    Option("mlcd", "8 nearest, MLCD, cosine, rate 0.1", f"{MULTI} clusterfit/loss=mlcd {COSINE} {SAMPLED}"),
    Option("cosine", "cosine head, margin 0.3", COSINE),
    Option("sampled", "sampled negatives, rate 0.1", SAMPLED),
    Option("recluster", "DeepCluster, every epoch", "clusterfit/recluster=kmeans", cost=1.4),
    Option("warm", "warm start", "clusterfit.warm_start=true", apart="begins with the teacher's weights"),
    # the first round is the paper's student, which is there
    Option("rounds", "3 rounds", "rounds=3", cost=2.2, apart="two further trainings"),
]
