import numpy as np
import pytest

from cf_lightning.data.samplers import BlockSampler, EpochSampler, RankSampler


def epoch_rows(num_replicas: int, epoch: int = 0, weights: np.ndarray | None = None) -> list[set[int]]:
    """The set of rows of each global batch."""
    rows = np.arange(100, 131)
    ranks = []
    for rank in range(num_replicas):
        sampler = EpochSampler(rows, weights, 12, seed=3, rank=rank, num_replicas=num_replicas)
        sampler.set_epoch(epoch)
        items = list(sampler)
        assert len(items) == len(sampler)
        assert {item[0] for item in items} == {epoch}
        ranks.append(np.array([item[1] for item in items]).reshape(-1, 12 // num_replicas))
    return [set(np.concatenate(batch).tolist()) for batch in zip(*ranks, strict=True)]


@pytest.mark.parametrize("num_replicas", [2, 3])
def test_global_batches_do_not_depend_on_the_number_of_ranks(num_replicas: int) -> None:
    assert epoch_rows(num_replicas) == epoch_rows(1)
    assert len(epoch_rows(1)) == 2
    assert all(len(batch) == 12 for batch in epoch_rows(1))


def test_epochs_differ_and_repeat() -> None:
    assert epoch_rows(1, epoch=1) == epoch_rows(1, epoch=1) != epoch_rows(1, epoch=0)


def test_weights_decide_how_often_a_row_is_drawn() -> None:
    weights = np.zeros(31)
    weights[:2] = [3.0, 1.0]
    sampler = EpochSampler(np.arange(31), weights, 31, seed=0)
    drawn = [row for epoch in range(40) for row in _rows(sampler, epoch)]
    assert set(drawn) == {0, 1}
    assert 0.7 < drawn.count(0) / len(drawn) < 0.8


def _rows(sampler: EpochSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return [row for _, row in sampler]


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="12 cannot be divided by 5"):
        EpochSampler(np.arange(31), None, 12, seed=0, num_replicas=5)


@pytest.mark.parametrize("num_replicas", [1, 2, 3])
def test_blocks_are_the_same_for_any_number_of_ranks(num_replicas: int) -> None:
    blocks = []
    for rank in range(num_replicas):
        rows = list(BlockSampler(10, 4, None, rank, num_replicas))
        blocks += [tuple(rows[i : i + 4]) for i in range(0, len(rows), 4)]
    assert blocks == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 9, 9)]


def test_only_blocks_with_pending_rows_come_again() -> None:
    pending = np.zeros(10, dtype=bool)
    pending[5] = True
    assert list(BlockSampler(10, 4, pending)) == [4, 5, 6, 7]
    assert list(BlockSampler(10, 4, np.zeros(10, dtype=bool))) == []


def test_validation_rows_come_once_over_all_ranks() -> None:
    rows = np.array([5, 7, 9, 11, 13])
    ranks = [list(RankSampler(rows, rank, 2)) for rank in range(2)]
    assert ranks == [[5, 9, 13], [7, 11, ~13]]
    assert list(RankSampler(rows[:0], 1, 2)) == []
