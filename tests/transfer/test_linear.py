from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multilabel_average_precision

from cf_lightning.errors import ConfigError, DataError
from cf_lightning.transfer import linear
from cf_lightning.transfer.accuracy import accuracies, rank_of_truth
from cf_lightning.transfer.linear import LinearProbe
from cf_lightning.transfer.splits import Split
from cf_lightning.transfer.tally import Tally

QUICK: dict[str, Any] = {"epochs": 10, "lr": 0.1}
Fixture = Callable[..., Any]


def test_separates_separable_blobs_and_rows_follow_samples(measure: Fixture, blobs: Fixture) -> None:
    target = blobs(spread=0.1)
    result = measure(LinearProbe(**QUICK), target.features, target.labels, target.splits)
    assert result.value() == 1.0
    for split in ("train", "test"):
        rolled = measure(LinearProbe(**QUICK), target.features, target.labels_rolled_in(split), target.splits)
        assert rolled.value() < 0.5


def test_is_at_chance_on_shuffled_labels(measure: Fixture, blobs: Fixture) -> None:
    target = blobs(spread=0.1)
    shuffled = np.random.default_rng(1).permutation(target.labels).tolist()
    result = measure(LinearProbe(**QUICK), target.features, shuffled, target.splits)
    assert 0.15 < result.value() < 0.35


def test_writes_scores_with_settings_and_counts(measure: Fixture, blobs: Fixture) -> None:
    target = blobs(spread=2.0, num_classes=7)
    result = measure(LinearProbe(**QUICK), target.features, target.labels, target.splits)
    assert [score["metric"] for score in result.metrics] == ["top1", "top5"]
    top1, top5 = result.metrics
    assert set(top1) == {"protocol", "layer", "metric", "value", "ci_low", "ci_high", "n_test", "details"}
    assert (top1["protocol"], top1["layer"], top1["n_test"]) == (
        "linear",
        "pooled",
        target.splits.count("test"),
    )
    assert 0 < top1["ci_low"] < top1["value"] < top1["ci_high"] < top5["ci_low"] < top5["value"] < 1
    assert top1["details"]["n_train"] == target.splits.count("train")
    assert (
        top1["details"].items() >= {"lr": 0.1, "epochs": 10, "batch_size": 256, "weight_decay": 5e-4}.items()
    )
    assert result.facts["top1"] == pytest.approx(100 * top1["value"], abs=0.05)


def test_the_seed_alone_decides(measure: Fixture, blobs: Fixture) -> None:
    target = blobs(spread=2.0)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = measure(LinearProbe(seed=3, **QUICK), target.features, target.labels, target.splits)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = measure(LinearProbe(seed=3, **QUICK), target.features, target.labels, target.splits)
    other = measure(LinearProbe(seed=4, **QUICK), target.features, target.labels, target.splits)
    assert first.written == again.written
    assert first.value() != other.value()


def test_a_test_sample_is_judged_alone(
    measure: Fixture, blobs: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = blobs(spread=2.0)
    together = measure(LinearProbe(**QUICK), target.features, target.labels, target.splits)
    monkeypatch.setattr(linear, "CHUNK", 1)
    alone = measure(LinearProbe(**QUICK), target.features, target.labels, target.splits)
    assert alone.value() == pytest.approx(
        together.value(), abs=0.002
    )  # at most one of 600 differs in last bits


def test_leaves_out_skipped_and_unlabelled_rows(measure: Fixture, blobs: Fixture) -> None:
    target = blobs(spread=0.1)
    skipped = [target.splits.index("train"), target.splits.index("test")]
    unlabelled = target.splits.index("test", skipped[1] + 1)
    target.features[[*skipped, unlabelled]] = np.nan
    target.labels[unlabelled] = None
    result = measure(LinearProbe(**QUICK), target.features, target.labels, target.splits, skipped)
    (top1,) = result.metrics
    assert result.value() == 1.0
    assert top1["n_test"] == target.splits.count("test") - 2
    assert top1["details"]["n_train"] == target.splits.count("train") - 1
    assert (top1["details"]["skipped"], top1["details"]["unlabelled"]) == (2, 1)


def test_refuses_features_that_are_not_finite(measure: Fixture, blobs: Fixture) -> None:
    target = blobs(spread=0.1)
    row = target.splits.index("test", 50)
    target.features[row, 3] = np.inf
    with pytest.raises(DataError, match=f"row {row} holds NaN or infinite"):
        measure(LinearProbe(**QUICK), target.features, target.labels, target.splits)


def test_says_when_training_diverges(measure: Fixture, blobs: Fixture) -> None:
    target = blobs(spread=0.1)
    with pytest.raises(ConfigError, match=r"protocol\.lr=1e\+38: the probe diverged"):
        measure(LinearProbe(lr=1e38), target.features, target.labels, target.splits)


def test_schedule_stretches_with_the_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[tuple[float, float]] = []
    step = torch.optim.SGD.step

    def spy(optimizer: torch.optim.SGD, closure: Any = None) -> Any:
        norm, linear = optimizer.param_groups
        assert (norm["weight_decay"], linear["weight_decay"]) == (0.0, 5e-4)
        assert linear["nesterov"]
        rates.append((round(norm["lr"], 9), round(linear["lr"], 9)))
        return step(optimizer, closure)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    labels = np.arange(33) % 2
    split = Split(np.arange(33), labels)  # batches of 16, 16 and a rest of one, which is left out
    LinearProbe(batch_size=16, epochs=56).evaluate(np.eye(33, dtype=np.float16), split, split, "cpu")
    expected = [0.01 / 16, 0.001 / 16, 0.0001 / 16, 0.00001 / 16]
    epochs = [16, 16, 16, 8]  # VISSL's 8, 16 and 24 of 28, twice as long
    assert rates == [
        (round(lr, 9),) * 2 for lr, n in zip(expected, epochs, strict=True) for _ in range(2 * n)
    ]


def test_rank_of_truth_breaks_ties_downwards_and_never_trusts_nan() -> None:
    nan = torch.nan
    scores = torch.tensor([[1.0, 3, 2], [2, 2, 0], [2, 2, 0], [nan, nan, nan], [nan, 1, 0]])
    ranks = rank_of_truth(scores, torch.tensor([2, 0, 1, 0, 1]))
    assert ranks.tolist() == [1, 0, 1, 3, 1]


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_as_published(hits: int, trials: int, low: float, high: float) -> None:
    ranks = (np.arange(trials) >= hits).astype(np.int64)
    (score,) = accuracies(ranks, 2, {})  # Newcombe 1998, table I, method 3
    assert score.value == hits / trials
    assert (round(score.ci_low, 4), round(score.ci_high, 4)) == (low, high)


def by_hand(probe: LinearProbe, features: np.ndarray, labels: np.ndarray, steps: int) -> torch.Tensor:
    """The logits of torch's own batch norm and linear layer after some steps on all samples."""
    inputs, dim = torch.from_numpy(features), features.shape[1]
    norm, layer = torch.nn.BatchNorm1d(dim), torch.nn.Linear(dim, 3)
    generator = torch.Generator().manual_seed(probe.seed)
    for parameter in layer.parameters():
        torch.nn.init.uniform_(parameter, -(dim**-0.5), dim**-0.5, generator=generator)
    groups: list[Any] = [
        {"params": norm.parameters()},
        {"params": layer.parameters(), "weight_decay": probe.weight_decay},
    ]
    assert isinstance(probe.lr, float)
    optimizer = torch.optim.SGD(groups, lr=probe.lr * probe.batch_size / 256, momentum=0.9, nesterov=True)
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(layer(norm(inputs)), torch.from_numpy(labels))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    with torch.inference_mode():
        return layer.eval()(norm.eval()(inputs))


@pytest.mark.parametrize("lrs", [[0.5], [0.1, 0.5, 2.0]])
def test_probes_side_by_side_are_torchs_own_one_by_one(lrs: list[float]) -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(3, size=64)
    features = (draw.normal(size=(64, 5)) + labels[:, None]).astype(np.float32)
    split, settings = Split(np.arange(64), labels), {"epochs": 6, "batch_size": 64, "milestones": []}
    probe = LinearProbe(lr=lrs, **settings)
    probes, _ = probe._fit(lrs, features, split, 3, "cpu")
    with torch.inference_mode():
        found = probes(torch.from_numpy(features))
    assert found.shape == (len(lrs), 64, 3)
    for lr, logits in zip(lrs, found, strict=True):
        expected = by_hand(LinearProbe(lr=lr, **settings), features, labels, steps=6)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_the_learning_rate_is_chosen_on_a_share_of_train(measure: Fixture, blobs: Fixture) -> None:
    target = blobs(spread=1.0)
    lrs = [1e-7, 0.1, 1e37]  # learns nothing, learns, diverges
    chosen = measure(LinearProbe(epochs=10, lr=lrs), target.features, target.labels, target.splits)
    alone = measure(LinearProbe(epochs=10, lr=0.1), target.features, target.labels, target.splits)
    assert chosen.value() == alone.value()
    details = chosen.metrics[0]["details"]
    num_train = target.splits.count("train")
    assert (details["lr"], details["lrs"], details["lr_at_end"]) == (0.1, lrs, False)
    assert details["tuned_on"] == (
        f"{round(0.1 * num_train)} samples of train; then fitted on all {num_train}"
    )
    assert int(np.argmax(details["val_top1"])) == 1

    rolled = target.labels_rolled_in("test")  # what the test split says has no part in the choice
    again = measure(LinearProbe(epochs=10, lr=lrs), target.features, rolled, target.splits)
    assert again.metrics[0]["details"]["val_top1"] == details["val_top1"]
    with pytest.raises(ValueError, match="learning rates have to ascend"):
        LinearProbe(lr=[0.1, 0.01])


def test_several_labels_give_the_map_of_its_own_logits(
    measure: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(0)
    truth = draw.random((1500, 3)) < 0.4
    features = (truth @ draw.normal(size=(3, 8)) + draw.normal(size=(1500, 8))).astype(np.float16)
    names = [" ".join(np.array(["a", "b", "c"])[row]) or None for row in truth]
    splits = draw.choice(["train", "test"], size=1500).tolist()
    seen: list[torch.Tensor] = []
    add = Tally.add

    def noted(self: Tally, scores: torch.Tensor) -> None:
        seen.append(scores)
        add(self, scores)

    monkeypatch.setattr(Tally, "add", noted)
    result = measure(LinearProbe(epochs=20, lr=[0.01, 0.1]), features, names, splits)
    (score,) = result.metrics
    rows = [row for row, split in enumerate(splits) if split == "test" and names[row]]
    expected = multilabel_average_precision(
        torch.cat(seen).sigmoid(), torch.from_numpy(truth[rows]).long(), 3
    )
    assert (score["metric"], score["n_test"]) == ("map", len(rows))
    assert score["value"] == pytest.approx(float(expected), abs=0.002)
    assert score["value"] > 0.7 > truth.mean()
    assert len(score["details"]["val_map"]) == 2
