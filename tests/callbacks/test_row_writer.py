from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from cf_lightning.callbacks.row_writer import RowWriter, unpack
from cf_lightning.errors import DataError, StoreError

FEATURES = torch.randn(23, 5, generator=torch.Generator().manual_seed(0))


def make_writer(tmp_path: Path, dtype: str = "float32") -> RowWriter:
    return RowWriter(tmp_path / "features.npy", (23, 5), dtype)


def written(tmp_path: Path) -> np.ndarray:
    return np.asarray(np.load(tmp_path / "features.npy"))


@pytest.mark.parametrize(
    "order",
    [
        torch.arange(23),
        torch.arange(23).flip(0),
        torch.randperm(23, generator=torch.Generator().manual_seed(1)),
        torch.arange(23).reshape(1, 23).expand(3, 23).reshape(-1),  # every row three times
        torch.cat([torch.arange(rank, 23, 3) for rank in range(3)]),  # strided, as of three ranks
    ],
)
def test_any_order_gives_the_same_file(tmp_path: Path, order: torch.Tensor) -> None:
    writer = make_writer(tmp_path)
    for index in order.split(6):
        writer.write(index, FEATURES[index])
    writer.finish()
    assert np.array_equal(written(tmp_path), FEATURES.numpy())
    assert np.load(tmp_path / "skipped.npy").tolist() == []


def test_one_contiguous_batch_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[int] = []
    writer = make_writer(tmp_path)
    monkeypatch.setattr(writer.file, "write", lambda start, *_: starts.append(start))
    writer.write(torch.arange(8, 16), FEATURES[8:16])
    writer.write(torch.tensor([3, 9, 4, 10]), FEATURES[[3, 9, 4, 10]])
    assert starts == [8, 3, 9]


def test_rows_that_fill_up_the_last_batch_are_dropped(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    index = torch.tensor([20, 21, 22, 22, 22, 22])
    padded = torch.cat([FEATURES[20:23], torch.full((3, 5), 99.0)])
    writer.write(index, padded)
    writer.file.close()
    assert np.array_equal(written(tmp_path)[20:], FEATURES[20:].numpy())


def test_skipped_rows_are_zeros_and_survive_a_resume(tmp_path: Path) -> None:
    index = torch.arange(23)
    index[[4, 5, 22]] = ~index[[4, 5, 22]]
    writer = make_writer(tmp_path)
    writer.write(index[:10], FEATURES[:10])
    writer.file.close()

    again = make_writer(tmp_path)
    assert np.flatnonzero(again.pending()).tolist() == list(range(10, 23))
    assert again.skipped().tolist() == [4, 5]
    with pytest.raises(StoreError, match="13 of 23 rows are missing, from row 10 on"):
        again.finish()
    again = make_writer(tmp_path)
    again.write(index[10:], FEATURES[10:])
    again.finish()
    assert np.load(tmp_path / "skipped.npy").tolist() == [4, 5, 22]
    expected = FEATURES.numpy().copy()
    expected[[4, 5, 22]] = 0
    assert np.array_equal(written(tmp_path), expected)


@pytest.mark.parametrize("source", [torch.float64, torch.float32, torch.bfloat16])
def test_converts_to_the_dtype_of_the_file(tmp_path: Path, source: torch.dtype) -> None:
    writer = make_writer(tmp_path, "float16")
    features = FEATURES.clone().to(source).requires_grad_()
    writer.write(torch.arange(23), features)
    writer.finish()
    assert written(tmp_path).dtype == np.float16
    assert np.array_equal(written(tmp_path), features.detach().half().numpy())


@pytest.mark.parametrize("wrong", [23, ~23])
def test_an_index_that_is_no_sample_is_refused(tmp_path: Path, wrong: int) -> None:
    with pytest.raises(DataError, match="predict_step returned index 23, but there are 23 samples"):
        make_writer(tmp_path).write(torch.tensor([0, wrong]), FEATURES[:2])


@pytest.mark.parametrize(
    "outputs",
    [
        FEATURES,
        None,
        (torch.arange(2), FEATURES[:3]),
        (torch.arange(2.0), FEATURES[:2]),
        (torch.arange(2), FEATURES[0, :2]),
        (torch.arange(2), FEATURES[:2], FEATURES[:2]),
    ],
)
def test_other_predictions_are_refused(outputs: Any) -> None:
    with pytest.raises(DataError, match=r"predict_step must return \(index, features\).*it returned"):
        unpack(outputs)


class Slice(LightningModule):
    """Returns the first columns of its input, and optionally breaks down."""

    def __init__(self, breaks_at: int | None = None) -> None:
        super().__init__()
        self.breaks_at = breaks_at

    def predict_step(self, batch: list[torch.Tensor], batch_idx: int) -> tuple[torch.Tensor, torch.Tensor]:
        if batch_idx == self.breaks_at:
            raise RuntimeError("out of power")
        index, features = batch
        return index, features[:, :5]


def predict(writer: RowWriter, model: LightningModule, rows: list[int] | None = None) -> None:
    wanted = torch.arange(23) if rows is None else torch.tensor(rows)
    loader = DataLoader(TensorDataset(wanted, FEATURES[wanted]), batch_size=4)
    trainer = Trainer(accelerator="cpu", callbacks=[writer], logger=False, enable_progress_bar=False)
    trainer.predict(model, loader, return_predictions=False)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_loop_that_broke_down_is_completed_by_the_next(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="out of power"):
        predict(make_writer(tmp_path), Slice(breaks_at=3))
    writer = make_writer(tmp_path)
    missing = np.flatnonzero(writer.pending()).tolist()
    assert missing == list(range(12, 23))
    predict(writer, Slice(), missing)
    writer.finish()
    assert np.array_equal(written(tmp_path), FEATURES.numpy())


def test_batches_are_written_while_later_ones_are_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, third = make_writer(tmp_path), Event()
    waited: list[bool] = []
    write = writer.file.write

    def patient(*args: Any) -> None:
        waited.append(third.wait(60))
        write(*args)

    class Told(Slice):
        def predict_step(
            self, batch: list[torch.Tensor], batch_idx: int
        ) -> tuple[torch.Tensor, torch.Tensor]:
            if batch_idx == writer.AHEAD:
                third.set()
            return super().predict_step(batch, batch_idx)

    monkeypatch.setattr(writer.file, "write", patient)
    predict(writer, Told())
    writer.finish()
    assert waited == [True] * 6
    assert np.array_equal(written(tmp_path), FEATURES.numpy())


def test_a_batch_that_cannot_be_written_ends_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = make_writer(tmp_path)
    write = writer.file.write

    def full(start: int, *args: Any) -> None:
        if start == 8:
            raise StoreError("no space left")
        write(start, *args)

    monkeypatch.setattr(writer.file, "write", full)
    with pytest.raises(StoreError, match="no space left"):
        predict(writer, Slice())
    assert {8, 9, 10, 11} <= set(np.flatnonzero(make_writer(tmp_path).pending()))
