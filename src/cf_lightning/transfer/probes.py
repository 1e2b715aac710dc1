"""Several linear probes of the same features, trained side by side."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Probes(nn.Module):
    """L probes, each batch norm and a linear layer, whose logits are one matrix product.

    What is normalised is the same for all, so that batch norm's statistics are computed once; the scale and
    shift of each are folded into its weights, so that no gradient of the features is needed. All begin alike.

    Args:
        dim: D.
        num_classes: C.
        number: L.
        seed: of the initial weights, torch's default ones for a linear layer.
    """

    def __init__(self, dim: int, num_classes: int, number: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weight, bias = torch.empty(num_classes, dim), torch.empty(num_classes)
        for one in (weight, bias):
            nn.init.uniform_(one, -(dim**-0.5), dim**-0.5, generator=generator)
        self.norm = nn.BatchNorm1d(dim, eps=1e-5, momentum=0.1, affine=False)
        self.scales = nn.ParameterList(torch.ones(dim) for _ in range(number))
        self.shifts = nn.ParameterList(torch.zeros(dim) for _ in range(number))
        self.weights = nn.ParameterList(weight.clone() for _ in range(number))
        self.biases = nn.ParameterList(bias.clone() for _ in range(number))

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) float32 to (L, B, C) logits."""
        pairs = list(zip(self.weights, self.scales, strict=True))
        weights = torch.cat([weight * scale for weight, scale in pairs])
        shifted = [
            torch.addmv(bias, weight, shift)
            for weight, bias, shift in zip(self.weights, self.biases, self.shifts, strict=True)
        ]
        logits = functional.linear(self.norm(features), weights, torch.cat(shifted))
        return logits.view(len(logits), len(pairs), -1).transpose(0, 1)

    def optimizer(self, lrs: list[float], weight_decay: float) -> torch.optim.Optimizer:
        """SGD with Nesterov momentum 0.9; scale and shift do not decay. Each probe has its own rate."""
        groups = []
        for lr, scale, shift, weight, bias in zip(
            lrs, self.scales, self.shifts, self.weights, self.biases, strict=True
        ):
            groups.append({"params": [scale, shift], "lr": lr, "weight_decay": 0.0})
            groups.append({"params": [weight, bias], "lr": lr, "weight_decay": weight_decay})
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True)


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """(L,) the mean loss over a batch of each probe.

    Cross-entropy of (B,) int64 labels. Of (B, C) int8 ones, each class a question by itself, binary
    cross-entropy added over the classes; what is not labelled 1 is negative.

    Args:
        logits: (L, B, C).
        labels: of the batch.
    """
    if labels.ndim == 1:
        each = functional.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="none")
        return each.view(len(logits), -1).mean(1)
    truth = (labels == 1).float().expand_as(logits)
    return functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(2).mean(1)
