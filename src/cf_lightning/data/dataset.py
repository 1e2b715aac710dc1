"""The map-style dataset under every loader: (sample, target, index)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

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
    metrics leave such rows out.

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
        self.shape = (source.view.single() if self.random else source.view).shape
        self.transform = augmentation.build(source.view) if augmentation else source.view.build()

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int | Item) -> tuple[Tensor, Tensor, int]:
        samples, targets, index = self.__getitems__([item])
        return samples[0], targets[0], int(index)

    def __getitems__(self, items: Sequence[int | Item]) -> tuple[Tensor, Tensor, Tensor]:
        """A whole batch, which torch's loaders ask for where there is this method; see ``whole``."""
        pairs = [item if isinstance(item, tuple) else (0, item) for item in items]
        rows = [row for _, row in pairs]
        samples, index = _empty_batch(len(items), self.shape), list(rows)
        for place, (epoch, row) in enumerate(pairs):
            try:
                samples[place] = self._view(epoch, row)
            except Undecodable:
                if self.source.on_error == "fail":
                    raise
                samples[place], index[place] = 0, ~row
        return samples, self.targets[rows], torch.tensor(index)

    def _view(self, epoch: int, row: int) -> Tensor:
        if not self.random:
            return self.transform(self.source.sample(self.index, row))  # type: ignore[no-any-return]
        with seeded([self.seed, epoch, row]):  # with workers=0 the generator is the trainer's
            return self.transform(self.source.sample(self.index, row, random=True))  # type: ignore[no-any-return]


def whole(batch: Any) -> Any:
    """The ``collate_fn`` for what ``SampleDataset.__getitems__`` gives."""
    return batch


def _empty_batch(num: int, shape: tuple[int, ...]) -> Tensor:
    """(num, *shape) uint8; in a loader process in shared memory, so that nothing is copied on its way.

    Images are channels last, as they are decoded and as convolutions want them.
    """
    size = (num, *shape)
    layout = torch.channels_last if len(size) == 4 else torch.contiguous_format
    if get_worker_info() is None:
        return torch.empty(size, dtype=torch.uint8, memory_format=layout)
    strides = torch.empty(size, device="meta", memory_format=layout).stride()
    shared: Any = torch.UntypedStorage._new_shared(math.prod(size))  # type: ignore[no-untyped-call] # as in default_collate
    return torch.empty(0, dtype=torch.uint8).set_(shared, 0, size, strides)
