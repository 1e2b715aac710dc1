"""Batch normalisation over all ranks on the CPU, which torch's own SyncBatchNorm refuses."""

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


class GlooBatchNorm(_BatchNorm):
    """``BatchNorm1d``, ``2d`` or ``3d`` whose training statistics are those of the global batch.

    Ranks hold equally many samples, as ``EpochSampler`` makes sure.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C), (B, C, H, W) or (B, C, T, H, W) to the same shape."""
        if not self.training:
            return super().forward(input)
        x = input.float().movedim(1, -1)
        samples = x.flatten(0, -2)
        count = len(samples) * torch.distributed.get_world_size()
        moments = torch.stack([samples.sum(0), samples.square().sum(0)])
        mean, square = all_reduce(moments) / count  # type: ignore[no-untyped-call]
        variance = square - mean.square()
        self._track(mean.detach(), variance.detach(), count)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normalised: Tensor = x * scale + (self.bias - mean * scale)
        return normalised.movedim(-1, 1).to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions will do."""

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        rate = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance * count / max(1, count - 1), rate)


def convert(module: nn.Module) -> nn.Module:
    """Turn every ``BatchNorm1d``, ``2d`` and ``3d`` below ``module`` into one over all ranks, in place."""
    for layer in module.modules():
        if type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            layer.__class__ = GlooBatchNorm
    return module
