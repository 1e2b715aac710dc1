"""``predict_step`` in the middle of a fit: which loader, and which batches of it on this rank."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch.utils.data import DataLoader, DistributedSampler

from cf_lightning.errors import ConfigError, DataError


def num_samples(loaders: Any) -> int:
    """N, from the dataset of the one predict dataloader."""
    if isinstance(loaders, list | tuple) and len(loaders) == 1:
        loaders = loaders[0]
    try:
        return len(loaders.dataset)
    except (AttributeError, TypeError):
        raise DataError("KMeansCallback needs one dataloader, whose dataset has a length") from None


def predict_loader(trainer: Trainer, module: LightningModule) -> Any:
    """The predict dataloader of the data module or, if that has none, of the module."""
    for source in (getattr(trainer, "datamodule", None), module):
        if source is not None and is_overridden("predict_dataloader", source):
            return source.predict_dataloader()
    raise ConfigError(
        "KMeansCallback(every_n_epochs=...) clusters what predict_dataloader() yields; neither "
        f"{type(module).__name__} nor a data module has one"
    )


def predictions(trainer: Trainer, module: LightningModule, loader: Any) -> Iterator[Any]:
    """``predict_step`` of this rank's batches, in the middle of a fit.

    The module is called itself and not through DDP, whose forward pass exchanges buffers and would wait
    for a rank that has a batch less. Every submodule gets back the mode that it had.
    """
    mine = _share(loader, trainer.global_rank, trainer.world_size)
    modes = [(part, part.training) for part in module.modules()]
    takes_number = is_param_in_hook_signature(module.predict_step, "batch_idx", min_args=2)
    trainer.predicting = True
    module.eval()
    try:
        for number, batch in enumerate(mine):
            batch = module._on_before_batch_transfer(trainer.precision_plugin.convert_input(batch))
            batch = trainer.strategy.batch_to_device(batch)
            with torch.no_grad(), trainer.precision_plugin.predict_step_context():
                outputs = module.predict_step(*((batch, number) if takes_number else (batch,)))
            yield outputs
    finally:
        for part, mode in modes:
            part.training = mode
        trainer.training = True


def _share(loader: DataLoader[Any], rank: int, num_ranks: int) -> DataLoader[Any]:
    """Every ``num_ranks``-th batch: the batches, and so the bits of their features, are those of one rank."""
    if num_ranks == 1 or isinstance(loader.sampler, DistributedSampler):
        return loader
    if loader.batch_sampler is None:
        raise DataError("KMeansCallback shares out the batches of the predict dataloader: set its batch_size")
    return DataLoader(
        loader.dataset,
        batch_sampler=list(loader.batch_sampler)[rank::num_ranks],
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
    )
