import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cf_lightning.config import build
from cf_lightning.errors import ConfigError, DataError
from cf_lightning.tasks.base import Targets
from cf_lightning.tasks.noise import with_noise

CLASSES = [f"class {number}" for number in range(5)]
TRUE = np.random.default_rng(7).integers(-1, 5, 6000)  # -1: no label
TRAIN = np.flatnonzero(np.arange(6000) % 3)
LABELLED = TRAIN[TRUE[TRAIN] >= 0]
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def noisy(share: float, seed: int = 0) -> np.ndarray:
    return with_noise(Targets(TRUE, CLASSES), TRAIN, share, seed).values


@pytest.mark.parametrize("share", SHARES)
def test_exactly_the_share_has_another_class_and_nothing_else_is_touched(share: float) -> None:
    labels = noisy(share)
    replaced = np.flatnonzero(labels != TRUE)
    assert len(replaced) == round(share * len(LABELLED))
    assert np.isin(replaced, LABELLED).all()
    assert set(np.unique(labels[replaced])) <= set(range(5))


def test_a_higher_share_contains_the_lower_ones() -> None:
    for low, high in itertools.pairwise(SHARES):
        replaced = noisy(low) != TRUE
        assert (noisy(high)[replaced] == noisy(low)[replaced]).all()


def test_the_new_class_is_drawn_evenly_from_the_others() -> None:
    labels = noisy(1.0)
    for true in range(5):
        counts = np.bincount(labels[LABELLED][TRUE[LABELLED] == true], minlength=5)
        assert counts[true] == 0
        assert np.delete(counts, true) == pytest.approx([counts.sum() / 4] * 4, rel=0.25)


def test_every_process_draws_the_same_and_another_seed_draws_others() -> None:
    lines = [
        "import numpy as np",
        "from cf_lightning.tasks.base import Targets",
        "from cf_lightning.tasks.noise import with_noise",
        "true = np.arange(200) % 5",
        "print(with_noise(Targets(true, list('abcde')), np.arange(150), 0.4, 3).values.tolist())",
    ]
    there = json.loads(subprocess.check_output([sys.executable, "-c", "\n".join(lines)]))
    here = with_noise(Targets(np.arange(200) % 5, list("abcde")), np.arange(150), 0.4, 3).values.tolist()
    assert there == here
    assert (noisy(0.5) != noisy(0.5, seed=1)).mean() > 0.2


@pytest.mark.parametrize(
    "targets", [Targets(np.zeros((4, 2), int), ["a", "b"]), Targets(np.zeros(4, int), ["a"])]
)
def test_samples_with_several_labels_or_a_single_class_are_refused(targets: Targets) -> None:
    with pytest.raises(
        DataError, match=r"noise=0.5: replaces labels of one class a sample out of two or more"
    ):
        with_noise(targets, np.arange(4), 0.5, 0)


def stage(compose: Callable[..., dict[str, Any]], root: Path, *overrides: str) -> Any:
    cfg = compose("+experiment=demo", "data=folder", f"data.root={root}", "pretrain.batch_size=8", *overrides)
    return build(cfg["pretrain"], "pretrain")


def test_a_training_learns_noisy_labels_and_is_validated_on_true_ones(
    compose: Callable[..., dict[str, Any]], image_folder: Callable[..., Path]
) -> None:
    root = image_folder(per_class=12)
    train = stage(compose, root, "pretrain=supervised", "pretrain.noise=0.5", "data.holdout=0.3")
    index = train.data.index()
    train.check(data=index)
    changed = np.flatnonzero(train._targets(index, {}).values != index.single_labels())
    assert len(changed) == round(0.5 * len(index.rows("train")))
    assert len(index.rows("val")) > 0
    assert not np.isin(changed, index.rows("val")).any()


def test_what_noise_cannot_be(
    compose: Callable[..., dict[str, Any]], image_folder: Callable[..., Path]
) -> None:
    root = image_folder(per_class=12)
    for share in ("-0.1", "1.1"):
        with pytest.raises(ConfigError, match=rf"^pretrain\.noise={share}: .*(greater|less) than or equal"):
            stage(compose, root, "pretrain=supervised", f"pretrain.noise={share}")
    unlabelled = stage(compose, root, "pretrain=rotation", "+pretrain.noise=0.5")
    with pytest.raises(ConfigError, match=r"noise=0.5: this training has no labels that could be replaced"):
        unlabelled.check(data=unlabelled.data.index())
