"""How long a run will take, from its operations: a plan's answer before anything is paid for.

Rates are of ResNet-50s, so that other networks are a matter of a factor of two; docs/scale.md has the
arithmetic and where each number comes from.
"""

# operations a second, forward and backward
A100 = 2470 * 3 * 8.2e9  # 2,470 images of 224 px a second, NVIDIA DeepLearningExamples, mixed precision
CORE = 35 * 3 * 2.7e9 / 2  # 35 images of 128 px on two cores of an AMD EPYC (Zen 4), bf16, experiments/bench


def hours(operations: float) -> dict[str, float]:
    """On some machines; several GPUs as if nothing were lost between them."""
    gpus = {f"{number} A100": operations / (number * A100) / 3600 for number in (1, 8, 64)}
    return {"2 CPU cores": operations / (2 * CORE) / 3600, **gpus}


def told(operations: float) -> str:
    """For people: ``4.2 PFLOP: some 12 h on 2 CPU cores, ...``."""
    times = ", ".join(f"{_duration(time)} on {machine}" for machine, time in hours(operations).items())
    return f"{_operations(operations)} in what is to run: at best some {times} (docs/scale.md)"


def _operations(number: float) -> str:
    for unit, factor in (("ZFLOP", 1e21), ("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number / 1e9:.3g} GFLOP"


def _duration(time: float) -> str:
    """Of hours."""
    if time >= 48:
        return f"{time / 24:.3g} days"
    if time >= 1:
        return f"{time:.3g} h"
    return f"{60 * time:.2g} min" if time >= 1 / 60 else f"{3600 * time:.2g} s"
