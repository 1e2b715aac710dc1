"""The map-style dataset under every loader: (sample, target, index)."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cf_lightning.data.index import Index
from cf_lightning.data.seeding import seeded
from cf_lightning.data.source import Source
from cf_lightning.data.views import Augmentation
from cf_lightning.errors import Undecodable

Item = tuple[int, int]


class SampleDataset(Dataset[tuple[Tensor, Tensor, int]]):
    """Samples by (epoch, row); what is random draws from (seed, epoch, row) and from nothing else.

    An item is ``(sample, target, index)``: uint8 as the view says, (3, crop, crop) of an image and
    (3, T, crop, crop) of a clip; int64 as in ``targets``; and the row. A sample that cannot be decoded comes,
    where its source says ``on_error: skip``, black and with ``index = ~row`` (negative): losses, writers and
    metrics leave such rows out. ``~row`` as an item is such a row, too.

    Args:
        source: decodes the samples.
        index: its rows.
        targets: (N,) or (N, T) int64, row i belongs to sample i; -1 is no target.
        augmentation: random view for training; ``None`` is the source's own deterministic view.
        seed: of the augmentation.
    """

    def __init__(
        self,
        source: Source,
        index: Index,
        targets: np.ndarray,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        if len(targets) != len(index):
            raise ValueError(f"{len(targets)} targets for {len(index)} samples")
        self.source, self.index, self.seed = source, index, seed
        self.targets = torch.from_numpy(targets)
        self.random = augmentation is not None
        self.transform = augmentation.build(source.view) if augmentation else source.view.build()

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int | Item) -> tuple[Tensor, Tensor, int]:
        epoch, row = item if isinstance(item, tuple) else (0, item)
        if row < 0:
            return self._nothing(~row)
        try:
            return self._view(epoch, row), self.targets[row], row
        except Undecodable:
            if self.source.on_error == "fail":
                raise
            return self._nothing(row)

    def _nothing(self, row: int) -> tuple[Tensor, Tensor, int]:
        view = self.source.view.single() if self.random else self.source.view
        return torch.zeros(view.shape, dtype=torch.uint8), self.targets[row], ~row

    def _view(self, epoch: int, row: int) -> Tensor:
        if not self.random:
            return self.transform(self.source.sample(self.index, row))  # type: ignore[no-any-return]
        with seeded([self.seed, epoch, row]):  # with workers=0 the generator is the trainer's
            return self.transform(self.source.sample(self.index, row, random=True))  # type: ignore[no-any-return]
