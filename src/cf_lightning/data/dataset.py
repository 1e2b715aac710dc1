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
from cf_lightning.data.views import Augmentation, View
from cf_lightning.data.watch import NONE, is_watched, reads
from cf_lightning.errors import Undecodable, UserError

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
        sides: of the crop in each epoch, in pixels; the last one holds from then on. Default the view's.
    """

    def __init__(
        self,
        source: Source,
        index: Index,
        targets: np.ndarray,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        sides: Sequence[int] = (),
    ) -> None:
        if len(targets) != len(index):
            raise ValueError(f"{len(targets)} targets for {len(index)} samples")
        self.source, self.index, self.seed = source, index, seed
        self.targets = torch.from_numpy(targets)
        self.random = augmentation is not None
        self.views = [source.view.scaled(side) for side in sides] or [source.view]  # of each epoch
        self.transforms = {
            view.crop: augmentation.build(view) if augmentation else view.build() for view in self.views
        }

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int | Item) -> tuple[Tensor, Tensor, int]:
        samples, targets, index = self._batch([item])
        return samples[0], targets[0], int(index)

    def __getitems__(self, items: Sequence[int | Item]) -> tuple[Tensor, Tensor, Tensor] | UserError:
        """A batch of one epoch, which torch's loaders ask for where there is this method; see ``whole``.

        In a process of our ``Loader`` it may be what the loader is to raise.
        """
        try:
            return self._batch(items)
        except UserError as error:
            if not is_watched():
                raise
            return error
        finally:
            reads(NONE)

    def name(self, row: int) -> str:
        """Of the file of a row, for messages."""
        return self.source.where(self.index, row)

    def _batch(self, items: Sequence[int | Item]) -> tuple[Tensor, Tensor, Tensor]:
        pairs = [item if isinstance(item, tuple) else (0, item) for item in items]
        view = self.views[min(pairs[0][0], len(self.views) - 1)]
        shape = view.single().shape if self.random else view.shape
        samples, index = _empty_batch(len(items), shape), [row for _, row in pairs]
        for place, (epoch, row) in enumerate(pairs):
            reads(max(row, NONE))
            try:
                samples[place] = self._seen(view, epoch, row) if row >= 0 else 0
            except Undecodable:
                if self.source.on_error == "fail":
                    raise
                samples[place], index[place] = 0, ~row
        rows = [max(row, ~row) for row in index]
        return samples, self.targets[rows], torch.tensor(index)

    def _seen(self, view: View, epoch: int, row: int) -> Tensor:
        transform = self.transforms[view.crop]
        if not self.random:
            return transform(self.source.sample(self.index, row))  # type: ignore[no-any-return]
        with seeded([self.seed, epoch, row]):  # with workers=0 the generator is the trainer's
            return transform(self.source.sample(self.index, row, random=True))  # type: ignore[no-any-return]


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
