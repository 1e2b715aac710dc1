"""When a stage needs more memory than there is: one message with the settings that take less."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cf_lightning.errors import ConfigError

# of faiss, cuBLAS and torch on a CPU, which have no class of their own for it
SAID = ("out of memory", "ALLOC_FAILED", "can't allocate memory")


@contextmanager
def enough_for(stage: Any) -> Iterator[None]:
    """Within, running out of memory becomes a message.

    Raises:
        ConfigError: what was asked for, the batch that was too large, and a smaller one.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_of_memory(error):
            raise
        said = ". ".join(str(error).split("\n")[0].split(". ")[:3]).rstrip(".") or "no more memory"
        raise ConfigError(f"out of memory ({said}); {_advice(stage)}") from error


def _is_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    known = (MemoryError, torch.OutOfMemoryError) if torch else MemoryError
    return isinstance(error, known) or any(words in str(error) for words in SAID)


def _advice(stage: Any) -> str:
    """What takes less memory: half of a batch at a time, of the stage or of what it measures with."""
    for name, settings in (("", stage), ("protocol.", getattr(stage, "protocol", None))):
        if hasattr(settings, "accumulate"):
            return _passes(settings)
        if (size := getattr(settings, "batch_size", 1)) > 1:
            return f"{name}batch_size={size} was too large here: take {name}batch_size={size // 2}"
    return "end what else uses this memory, or take a machine with more of it"


def _passes(stage: Any) -> str:
    """Of a training: the same batch in more passes, as far as it can be divided."""
    parts = stage.accumulate * stage.runtime.num_processes()
    halves = 2 if stage.mix.on else 1
    size = stage.batch_size // parts
    said = f"batch_size={stage.batch_size} was too large here, with {size} samples at once on each device"
    for more in range(2, size // halves + 1):
        if size % (more * halves) == 0:
            return f"{said}: take accumulate={stage.accumulate * more}, that is {size // more} at once"
    return f"{said}: take a smaller batch_size or smaller crops"
