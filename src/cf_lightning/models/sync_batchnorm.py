"""Batch normalisation over all ranks; on the CPU by our own, for torch's SyncBatchNorm refuses it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class GlooBatchNorm(_BatchNorm):
    """``BatchNorm1d``, ``2d`` or ``3d`` whose training statistics are those of the global batch.

    Ranks hold equally many samples, as ``EpochSampler`` makes sure.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C), (B, C, H, W) or (B, C, T, H, W) to the same shape."""
        if not self.training:
            return super().forward(input)
        output, mean, variance = _Normalise.apply(input, self.weight, self.bias, self.eps)
        self._track(mean, variance, _count(input))
        return output  # type: ignore[no-any-return]

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


class GlooBatchNormAct(GlooBatchNorm):
    """The same of timm's ``BatchNormAct2d``, which has dropout and activation within."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return self.act(self.drop(super().forward(input)))  # type: ignore[no-any-return]


class _Normalise(torch.autograd.Function):
    """By torch's own kernels: they normalise with given statistics, and sum up what the gradient needs."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        no_mean, no_variance = torch.zeros(2, x.shape[1])  # running ones; without them it refuses bf16
        own_mean, own_variance = torch.batch_norm_update_stats(x, no_mean, no_variance, 0.0)
        ranks = torch.distributed.get_world_size()
        mean, square = _over_ranks(own_mean, own_variance + own_mean.square()) / ranks
        variance = square - mean.square()
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance)
        return functional.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, variance = ctx.saved_tensors
        grad = gradients[0]
        scaled, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        by_bias, by_weight = _over_ranks(of_bias, of_weight) / _count(x)
        scale = torch.rsqrt(variance + ctx.eps)
        slope = -weight * scale.square() * by_weight
        offset = -weight * scale * by_bias - slope * mean
        # slope * x + offset for each channel
        rest = functional.batch_norm(x, torch.zeros_like(mean), torch.ones_like(mean), slope, offset, eps=0.0)
        return scaled.add_(rest), of_weight, of_bias, None


def _count(x: Tensor) -> int:
    """Numbers of one channel in the global batch."""
    return x.numel() // x.shape[1] * torch.distributed.get_world_size()


def _over_ranks(*sums: Tensor) -> Tensor:
    """(n, C): the sums of all ranks."""
    every = torch.stack(sums)
    torch.distributed.all_reduce(every)
    return every


def convert(module: nn.Module, device_kind: str = "cpu") -> nn.Module:
    """Turn every batch normalisation below ``module`` into one over all ranks.

    On GPUs by timm's conversion to torch's ``SyncBatchNorm``: torch's own, which is Lightning's, too, forgets
    the activation within timm's ``BatchNormAct2d``.

    Args:
        module: on a CPU it is changed in place.
        device_kind: ``cpu`` or ``cuda``.

    Returns:
        what to use in its place.
    """
    from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm

    if device_kind == "cuda":
        converted: nn.Module = convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return converted
    ours: dict[type[nn.Module], Any] = dict.fromkeys(PLAIN, GlooBatchNorm)
    ours[BatchNormAct2d] = GlooBatchNormAct
    for layer in module.modules():
        layer.__class__ = ours.get(type(layer), type(layer))
    return module
