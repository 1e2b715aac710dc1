from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch.utils.data import DataLoader

from cf_lightning.data.dataset import SampleDataset
from cf_lightning.data.folder import FolderImages
from cf_lightning.data.images import ImageDataModule
from cf_lightning.data.views import Augmentation, View
from cf_lightning.errors import DataError

VIEW = View(resize=18, crop=16)


@pytest.fixture
def source(image_folder: Callable[..., Path]) -> FolderImages:
    return FolderImages(root=str(image_folder(per_class=12)), view=VIEW, holdout=0.2)


def brightest_channel(images: torch.Tensor) -> torch.Tensor:
    return images.float().mean((2, 3)).argmax(1)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_label_belongs_to_the_sample_in_every_loader(source: FolderImages, workers: int) -> None:
    data = ImageDataModule(source, batch_size=4, augmentation=Augmentation(jitter=0.1), workers=workers)
    channel_of_class = torch.tensor([2, 1, 0])  # blue, green, red
    seen = {}
    for name in ("train", "val", "predict"):
        rows: list[int] = []
        for images, targets, index in getattr(data, f"{name}_dataloader")():
            assert images.dtype == torch.uint8
            assert images.shape[1:] == (3, 16, 16)
            assert torch.equal(brightest_channel(images), channel_of_class[targets])
            assert targets.tolist() == data.targets[index].tolist()
            rows += index.tolist()
        seen[name] = set(rows)
    assert seen["predict"] == set(range(36))
    assert seen["val"] == set(data.index.rows("val").tolist())
    assert seen["train"] <= set(data.index.rows("train").tolist())


@pytest.mark.parametrize("workers", [0, 2])
def test_prediction_keeps_the_rows_of_no_batch_that_is_over(source: FolderImages, workers: int) -> None:
    rows: list[list[int]] = []

    class Told(BasePredictionWriter):
        """Lightning's own kind of writer, which is told the rows that a batch was fetched for."""

        def write_on_batch_end(self, *arguments: Any) -> None:
            rows.append(arguments[3])

    class Rows(LightningModule):
        def predict_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
            return batch[2]

    data = ImageDataModule(source, batch_size=4, workers=workers)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[Told("batch")], **quiet)
    predicted = trainer.predict(Rows(), data)
    assert rows == [index.tolist() for index in predicted]
    kept = trainer.predict_dataloaders.batch_sampler.seen_batch_indices
    assert [len(batch) for batch in kept] == [0] * 7 + [4] * 2


def test_augmentation_follows_seed_epoch_and_row_alone(source: FolderImages) -> None:
    data = ImageDataModule(source)

    def view(epoch: int, row: int, seed: int = 0) -> torch.Tensor:
        dataset = SampleDataset(source, data.index, data.targets, Augmentation(jitter=0.4), seed)
        return dataset[(epoch, row)][0]

    before = torch.get_rng_state()
    first = view(3, 5)
    assert torch.equal(torch.get_rng_state(), before), "the trainer's own draws are not disturbed"
    torch.manual_seed(1234)
    view(3, 6)
    assert torch.equal(view(3, 5), first)
    for other in (view(4, 5), view(3, 6), view(3, 5, seed=1)):
        assert not torch.equal(other, first)


def test_without_a_least_area_a_crop_keeps_the_scale_and_lies_anywhere() -> None:
    image = torch.arange(400, dtype=torch.uint8).view(1, 20, 20) % 20 + torch.zeros(
        3, 1, 1, dtype=torch.uint8
    )
    image[1] = torch.arange(20, dtype=torch.uint8)[:, None]
    crop = Augmentation(min_area=None, flip=0.0).build(View(resize=20, crop=16))
    torch.manual_seed(0)
    corners = set()
    for _ in range(200):
        shown = crop(image)
        left, top = (int(pixel) for pixel in shown[:2, 0, 0])
        assert torch.equal(shown, image[:, top : top + 16, left : left + 16])
        corners.add((top, left))
    assert corners == {(top, left) for top in range(5) for left in range(5)}
    resized = Augmentation(min_area=None).build(View(resize=36, crop=32))(image)
    assert resized.shape == (3, 32, 32)


def test_an_epoch_is_the_same_with_and_without_loader_processes(source: FolderImages) -> None:
    epochs = []
    for workers in (0, 2):
        data = ImageDataModule(source, batch_size=8, augmentation=Augmentation(), workers=workers, seed=7)
        loader: DataLoader[object] = data.train_dataloader()
        loader.sampler.set_epoch(2)  # type: ignore[attr-defined]
        epochs.append(list(loader))
    for one, two in zip(*epochs, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_broken_image_is_marked_by_its_index_or_ends_the_loop(source: FolderImages) -> None:
    root = Path(source.root or "")
    (root / "green" / "004.png").write_bytes(b"not a picture")
    row = 12 + 4
    with pytest.raises(DataError, match=r"green/004.png .*data.on_error=skip"):
        list(ImageDataModule(source).predict_dataloader())
    skipping = source.model_copy(update={"on_error": "skip"})
    (images, targets, index), *_ = list(ImageDataModule(skipping, batch_size=36).predict_dataloader())
    assert index[row] == ~row
    assert not images[row].any()
    assert (index >= 0).sum() == 35
    assert targets[row] == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_the_epoch_alone_decides_how_large_a_training_crop_is(source: FolderImages, workers: int) -> None:
    data = ImageDataModule(
        source, augmentation=Augmentation(), sides=[8, 12, 16], batch_size=8, workers=workers
    )
    loader: DataLoader[object] = data.train_dataloader()
    for epoch, side in ((2, 16), (0, 8), (1, 12), (7, 16)):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        assert {tuple(images.shape[1:]) for images, *_ in loader} == {(3, side, side)}  # type: ignore[misc]
    for whole in (data.val_dataloader(), data.predict_dataloader()):
        assert {tuple(images.shape[1:]) for images, *_ in whole} == {(3, 16, 16)}


def test_a_broken_image_is_as_large_as_the_others_of_its_epoch(source: FolderImages) -> None:
    (Path(source.root or "") / "green" / "004.png").write_bytes(b"not a picture")
    skipping = source.model_copy(update={"on_error": "skip"})
    data = ImageDataModule(skipping)
    dataset = SampleDataset(skipping, data.index, data.targets, Augmentation(), sides=[8, 16])
    assert [tuple(dataset[(epoch, 12 + 4)][0].shape) for epoch in (0, 1, 2)] == [
        (3, 8, 8),
        (3, 16, 16),
        (3, 16, 16),
    ]
