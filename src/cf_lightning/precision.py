"""Which arithmetic a device is fastest in without changing what is learned."""

from typing import Any, Literal

Precision = Literal["auto", "32-true", "16-mixed", "bf16-mixed"]


def resolve_precision(precision: Precision, device_kind: str) -> Any:
    """``auto`` is bf16 mixed precision where the processor multiplies bf16 matrices, else float32.

    Keys hash ``auto`` as it stands; the manifest records what it became.
    """
    if precision != "auto":
        return precision
    import torch

    if device_kind == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    has_bf16 = any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return "bf16-mixed" if has_bf16 else "32-true"
