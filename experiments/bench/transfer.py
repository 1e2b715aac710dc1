"""Protocols of transfer: many probes at once, against the extraction, against scikit-learn, their memory.

Called with a protocol's name and a file of features, this file is the process whose memory is measured.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from images import make_images
from measuring import Bound, Row, growth, in_turn, ratio, seconds
from profiling import operators
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from cf_lightning.models.torchvision import TorchvisionTrunk
from cf_lightning.runtime import Runtime
from cf_lightning.stages.extract import Extract
from cf_lightning.transfer import logreg
from cf_lightning.transfer.base import Protocol
from cf_lightning.transfer.knn import KNN
from cf_lightning.transfer.linear import LinearProbe
from cf_lightning.transfer.retrieval import Retrieval
from cf_lightning.transfer.splits import Split
from cf_lightning.transfer.svm import SVM

DIM, CLASSES = 2048, 50
TRAIN, TEST = 1000, 250
LAYERS = (9216, 9216, 8192, 9216, 8192)  # of a ResNet-50 at 224 px
LRS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]
IMAGES, SIDE = 512, 128
MANY = 96_000, 500  # train and test samples, whose memory is looked at
FROZEN: dict[str, Protocol] = {"linear": LinearProbe(epochs=1), "knn": KNN(), "retrieval": Retrieval()}
ROUNDS, MIB = 3, 2**20


def rows(folder: Path) -> Iterator[Row]:
    yield probes()
    yield together(folder)
    yield from solvers()
    for name in FROZEN:
        yield memory(folder, name)


def generated(train: int, test: int, dim: int = DIM) -> tuple[np.ndarray, Split, Split]:
    """(N, D) float16 features of classes that overlap, and their splits."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, train + test)
    means = rng.standard_normal((CLASSES, dim), np.float32) / 4
    features = np.empty((train + test, dim), np.float16)
    for start in range(0, train + test, 1000):
        part = slice(start, start + 1000)
        features[part] = means[labels[part]] + rng.standard_normal((len(labels[part]), dim), np.float32)
    every = np.arange(train + test)
    return features, Split(every[:train], labels[:train]), Split(every[train:], labels[train:])


def probes() -> Row:
    """Each layer's eight learning rates at once, the best then on all of train; and forty probes singly."""
    features, train, test = generated(TRAIN, TEST, sum(LAYERS))
    layers = np.split(features, np.cumsum(LAYERS)[:-1], axis=1)

    def at_once() -> None:
        for layer in layers:
            LinearProbe(epochs=2, lr=LRS).evaluate(layer, train, test, "cpu")

    def singly() -> None:
        for layer in layers:
            for lr in LRS:
                LinearProbe(epochs=2, lr=lr).evaluate(layer, train, test, "cpu")

    ours, theirs = in_turn(lambda: seconds(at_once), lambda: seconds(singly), rounds=3, warm_up=False)
    what = (
        f"5 layers x 8 learning rates of linear at once / singly ({TRAIN} samples, some 9,000 numbers, cpu)"
    )
    return ratio(what, ours, theirs, Bound("<=", 0.5), "s")


def together(folder: Path) -> Row:
    """Linear (28 epochs), kNN and retrieval as they are published, and the extraction of their features."""
    source = make_images(folder / "target", IMAGES, file_side=160, side=SIDE)
    index, number = source.index(), 0
    index.write(folder)
    stage = Extract(
        data=source,
        model=TorchvisionTrunk(name="resnet50"),
        batch_size=32,
        runtime=Runtime(accelerator="cpu", devices=1, progress=False),
    )
    features, train, test = generated(IMAGES * 4 // 5, IMAGES - IMAGES * 4 // 5)

    def extract() -> None:
        nonlocal number
        out, number = folder / f"extracted{number}", number + 1
        out.mkdir()
        stage.run(out, data=folder)

    def measure() -> None:
        for protocol in (LinearProbe(), KNN(), Retrieval()):
            protocol.evaluate(features, train, test, "cpu")

    ours, theirs = in_turn(lambda: seconds(measure), lambda: seconds(extract), rounds=3, warm_up=False)
    what = f"linear, knn and retrieval / the extraction ({IMAGES} images, ResNet-50, {SIDE} px, cpu)"
    return ratio(what, ours, theirs, Bound("<=", 0.5), "s")


def solvers() -> Iterator[Row]:
    """SVM and logistic regression, and the same fits of scikit-learn by hand."""
    features, train, test = generated(TRAIN, TEST)
    several = [
        Split(part.rows, (part.labels[:, None] == np.arange(5)).astype(np.int8)) for part in (train, test)
    ]
    seen = normalize(features[train.rows].astype(np.float32))
    cs = [0.1, 1.0, 10.0]

    def machines() -> None:
        samples, svm = seen.astype(np.float64), SVM()
        folds = StratifiedKFold(3, shuffle=True, random_state=0)
        for truth in np.where(several[0].labels == 1, 1, -1).T:
            for learnt, held in folds.split(truth, truth):
                for c in svm.cs:
                    one = fitted(samples[learnt], truth[learnt], c)
                    average_precision_score(truth[held], one.decision_function(samples[held]))
            fitted(samples, truth, 1.0)

    def regressions() -> None:
        fit, held = train_test_split(np.arange(TRAIN), test_size=0.2, stratify=train.labels, random_state=0)
        for c in cs:
            one = LogisticRegression(C=c, max_iter=1000).fit(seen[fit], train.labels[fit])
            one.score(seen[held], train.labels[held])
        LogisticRegression(C=1.0, max_iter=1000).fit(seen, train.labels)

    sides = {
        "svm": (lambda: SVM().evaluate(features, *several, "cpu"), machines),
        "logreg": (
            lambda: logreg.LogisticRegression(cs=cs).evaluate(features, train, test, "cpu"),
            regressions,
        ),
    }
    for name, (framework, by_hand) in sides.items():
        ours, theirs = in_turn(
            lambda act=framework: seconds(act), lambda act=by_hand: seconds(act), rounds=3, warm_up=False
        )
        what = f"{name} / scikit-learn by hand ({TRAIN} x {DIM}, cpu)"
        yield ratio(what, ours, theirs, Bound("<=", 1.2), "s")


def fitted(samples: np.ndarray, truth: np.ndarray, c: float) -> LinearSVC:
    machine = LinearSVC(C=c, class_weight={1: 2, -1: 1}, dual=True, max_iter=2000, random_state=0)
    return machine.fit(samples, truth)


def memory(folder: Path, name: str) -> Row:
    """The matrix itself is mapped from disk, so it does not count."""
    file = folder / "many.npy"
    if not file.exists():
        np.save(file, generated(*MANY)[0])
    peaks = [growth(sys.executable, __file__, name, str(file)) / MIB for _ in range(ROUNDS)]
    matrix = sum(MANY) * DIM * 2 / MIB
    what = f"{name} of {sum(MANY)} x {DIM}: peak memory / the float16 features"
    return ratio(what, peaks, [matrix] * ROUNDS, Bound("<=", 1.5), "MiB")


def measure_memory(name: str, file: str) -> None:
    few, train, test = generated(500, 100)
    FROZEN[name].evaluate(few, train, test, "cpu")
    features = np.load(file, mmap_mode="c")
    every, labels = np.arange(sum(MANY)), np.random.default_rng(0).integers(0, CLASSES, sum(MANY))
    parts = slice(MANY[0]), slice(MANY[0], None)
    splits = [Split(every[part], labels[part]) for part in parts]
    print("warm", flush=True)
    with operators(f"memory of {name}", by="self_cpu_memory_usage"):
        FROZEN[name].evaluate(features, *splits, "cpu")


if __name__ == "__main__":
    measure_memory(*sys.argv[1:])
