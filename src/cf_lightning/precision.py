"""Which arithmetic a device is fastest in without changing what is learned."""

from typing import TYPE_CHECKING, Any, Literal

from cf_lightning.errors import ConfigError

if TYPE_CHECKING:
    from cf_lightning.runtime import Runtime

Precision = Literal["auto", "32-true", "16-mixed", "bf16-mixed"]


def resolve_precision(precision: Precision, device_kind: str) -> Any:
    """``auto`` is bf16 mixed precision where the processor multiplies bf16 matrices, else float32.

    Keys hash ``auto`` as it stands; the manifest records what it became.
    """
    if precision != "auto":
        return precision
    if has_bf16(device_kind):
        return "bf16-mixed"
    return "16-mixed" if device_kind == "cuda" else "32-true"


def check_precision(precision: Precision, runtime: "Runtime") -> None:
    """Raise ``ConfigError`` where this machine lacks the arithmetic that is asked for."""
    if precision in ("auto", "32-true") or runtime.slurm is not None:  # whose nodes are other machines
        return
    kind = runtime.device_kind()
    if precision == "bf16-mixed" and not has_bf16(kind):
        device = "GPU" if kind == "cuda" else "processor"
        raise ConfigError(
            f"precision=bf16-mixed: this machine's {device} has no bf16 and would be slower with it than in "
            "float32; set precision=auto or 32-true"
        )
    if precision == "16-mixed" and kind == "cpu":
        raise ConfigError(
            "precision=16-mixed: float16 is for GPUs, and runtime.accelerator is the processor; "
            "set precision=auto, bf16-mixed or 32-true"
        )


def has_bf16(device_kind: str) -> bool:
    """Whether it multiplies bf16 matrices itself."""
    import torch

    if device_kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
