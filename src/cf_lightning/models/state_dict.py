"""Weights in other people's files: read without executing anything, and matched with a network."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

from cf_lightning.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

PICKLED = (".pth", ".pt", ".pth.tar", ".ckpt", ".bin")  # what torch.save writes; read with weights_only


def check_file(path: str) -> None:
    """Find what is wrong with a file of weights, as far as that can be seen without torch.

    Raises:
        ConfigError: it is missing, empty, truncated, or of a kind that is not read.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"teacher.path={path}: there is no such file")
    if not path.endswith((*PICKLED, ".safetensors")):
        kinds = ", ".join((".safetensors", *PICKLED))
        raise ConfigError(f"teacher.path={path}: a state dict's name ends in one of {kinds}")
    damaged = not file.stat().st_size
    if path.endswith(".safetensors"):
        try:
            safe_open(path, framework="numpy")  # reads the header, and compares it with the size
        except SafetensorError:
            damaged = True
    elif not damaged:
        with open(file, "rb") as opened:
            damaged = opened.read(2) == b"PK" and not _is_whole(file)
    if damaged:
        raise ConfigError(f"teacher.path={path}: the file is empty, truncated or damaged; copy it again")


def _is_whole(file: Path) -> bool:
    """A zip file ends with its directory, and what torch writes into one is not compressed."""
    try:
        with ZipFile(file) as archive:
            return sum(member.file_size for member in archive.infolist()) <= file.stat().st_size
    except (BadZipFile, NotImplementedError, OverflowError, ValueError):
        return False


def read_tensors(path: str) -> "dict[str, Tensor]":
    """Every tensor of a file by its dotted name, however deeply its dictionaries are nested.

    Raises:
        ConfigError: reading it would execute code (a pickled module), or there is no tensor in it.
    """
    import argparse

    import torch
    from safetensors.torch import load_file

    try:
        if path.endswith(".safetensors"):
            content = load_file(path)
        else:
            with torch.serialization.safe_globals([argparse.Namespace]):  # many keep their arguments there
                content = torch.load(path, map_location="cpu", weights_only=True)
        tensors = dict(_flat(content))
    except Exception as error:  # of whatever bytes, torch raises whatever
        reason = (str(error) or type(error).__name__).splitlines()[0].split(". ")[0]
        raise ConfigError(
            f"teacher.path={path}: not a state dict that can be read without executing it "
            f"({reason}); save model.state_dict() with torch.save or safetensors"
        ) from error
    if not tensors:
        raise ConfigError(f"teacher.path={path}: holds no state dict (names and tensors)")
    return tensors


def _flat(content: Any, prefix: str = "") -> "Iterator[tuple[str, Tensor]]":
    import torch

    if not isinstance(content, Mapping):
        return
    for name, value in content.items():
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value
        else:
            yield from _flat(value, f"{prefix}{name}.")


@dataclass(frozen=True)
class Match:
    """What of a file fits a network.

    Attributes:
        weights: the tensors that fit, by the network's names.
        wanted: how many the network has.
        prefix: what stands before the network's names in the file, such as ``state_dict.module.encoder_q.``.
        equals: other prefixes under which as many fit, where the prefix was not given.
        missing: names of the network that the file lacks.
        reshaped: names of the network that the file has in another shape.
        unused: names of the file below the prefix that the network lacks, such as its classifier.
    """

    weights: "dict[str, Tensor]"
    wanted: int
    prefix: str
    equals: list[str]
    missing: list[str]
    reshaped: list[str]
    unused: list[str]

    @property
    def fitting(self) -> int:
        """How many of the network's tensors the file has in the same shape."""
        return self.wanted - len(self.missing) - len(self.reshaped)

    @property
    def share(self) -> float:
        """Of the network's tensors that fit."""
        return self.fitting / self.wanted

    def __str__(self) -> str:
        """One line: how many fit, and the first of those that do not."""
        parts = [f"{self.fitting} of the {self.wanted} tensors of the network fit"]
        parts += [f"under the prefix {self.prefix}"] if self.prefix else []
        lists = {"missing": self.missing, "of another shape": self.reshaped, "not used": self.unused}
        parts += [f"{what}: {_first(names)}" for what, names in lists.items() if names]
        return "; ".join(parts)


def match(network: "Mapping[str, Tensor]", file: "Mapping[str, Tensor]", prefix: str | None = None) -> Match:
    """Find a network's tensors in a file by name and shape, under whatever prefix most of them have there.

    DDP's ``module.``, ``backbone.``, MoCo's ``encoder_q.``, a container such as ``state_dict`` and all
    that other frameworks put before a name are found in the same way: no list of them is needed.

    Args:
        network: its state dict. ``num_batches_tracked`` counts nowhere: old files do not have it.
        file: tensors by name.
        prefix: where the network lies in the file; null is where most tensors fit, the first of equals.
    """
    named: Counter[str] = Counter()
    fitting: Counter[str] = Counter()
    for name, tensor in file.items():
        for start in _starts(name):
            if name[start:] in network:
                named[name[:start]] += 1
                fitting[name[:start]] += tensor.shape == network[name[start:]].shape
    best = max(named, key=lambda p: (fitting[p], named[p]), default="") if prefix is None else prefix
    below = {name.removeprefix(best): tensor for name, tensor in file.items() if name.startswith(best)}
    counted = [name for name in network if not name.endswith("num_batches_tracked")]
    return Match(
        weights={n: t for n, t in below.items() if n in network and t.shape == network[n].shape},
        wanted=len(counted),
        prefix=best,
        equals=[p for p in named if prefix is None and p != best and fitting[p] == fitting[best] > 0],
        missing=[name for name in counted if name not in below],
        reshaped=[name for name in counted if name in below and below[name].shape != network[name].shape],
        unused=[name for name in below if name not in network],
    )


def _starts(name: str) -> list[int]:
    """Where a name may begin: at its start and behind each dot."""
    return [0, *(place + 1 for place, letter in enumerate(name) if letter == ".")]


def _first(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest
