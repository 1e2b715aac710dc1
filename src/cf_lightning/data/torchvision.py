"""The classification sets that torchvision knows by name."""

import difflib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import Field, PrivateAttr

from cf_lightning.data.containers import File, sample_table
from cf_lightning.data.image_source import ImageSource
from cf_lightning.data.index import SPLITS, Index
from cf_lightning.data.published.counts import Count, check_counts
from cf_lightning.data.remote import is_url
from cf_lightning.errors import DataError

if TYPE_CHECKING:
    from cf_lightning.data.picture import Picture

# what torchvision's data sets call our splits, the best name first
SPLIT_ARGUMENTS = {
    "train": ("train", "trainval", "train-standard"),
    "val": ("val", "valid"),
    "test": ("test",),
}
UNSAFE = ("LSUN", "LSUNClass")  # they load a pickle that lies beside the data, whoever wrote it


class TorchvisionImages(ImageSource):
    """A data set of ``torchvision.datasets``, in its own order; ``root`` is what torchvision calls so.

    Labels are the data set's class names, or numbers where it has no names or not for each class its own.

    Attributes:
        name: of the class in ``torchvision.datasets``, such as CIFAR10, FashionMNIST or Flowers102.
        partition: which of the ways to split, of data sets such as DTD that have several.
        download: fetch what is missing below the root.
        expected: how many classes, samples, or samples of a split it was published with, before any is set
            aside; ``None`` takes what is there.
    """

    name: str
    partition: int | None = Field(default=None, ge=1)
    download: bool = False
    expected: dict[Count, int] | None = None

    _opened: dict[str, Any] = PrivateAttr(default_factory=dict)

    def list_samples(self) -> pa.Table:
        """One row for each item; its key is NAME/SPLIT/NUMBER, and NAME tells the partition, too."""
        title = self.name if self.partition is None else f"{self.name} partition {self.partition}"
        keys: list[str] = []
        splits: list[str] = []
        labels: list[list[str]] = []
        for split in SPLITS:
            dataset = self._load(split, self.download)
            if dataset is None:
                continue
            self._opened[split] = dataset
            keys += [f"{title}/{split}/{number:08d}" for number in range(len(dataset))]
            splits += [split] * len(dataset)
            labels += self._labels(dataset)
        if not keys:
            raise DataError(
                f"name={self.name}: torchvision.datasets.{self.name} has no split named train or test"
            )
        table = sample_table([File(key, None) for key in keys], splits, labels, [[]] * len(keys))
        check_counts(table, self.expected, self.root)
        return table

    def decode(self, index: Index, row: int) -> "Picture":
        """One item, made from the Pillow image that torchvision gives."""
        from cf_lightning.data.decoding import image_to_tensor
        from cf_lightning.data.picture import Picture

        _, split, number = index.key(row).split("/")
        if split not in self._opened:
            self._opened[split] = self._load(split, download=False)
        return Picture.of(image_to_tensor(self._opened[split][int(number)][0]))

    def _load(self, split: str, download: bool) -> Any:
        """The data set's part for ``split``, ``None`` where it has none."""
        dataset_class = self._dataset_class()
        is_made = download and self.root and not is_url(self.root)
        root = Path(str(self.root)).expanduser() if is_made else self.folder()
        arguments: dict[str, Any] = {"download": True} if download else {}
        if self.partition is not None:
            arguments["partition"] = self.partition
        for choice in _split_arguments(dataset_class, split):
            try:
                return dataset_class(str(root), **choice, **arguments)
            except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
                if isinstance(error, ValueError) and "for argument split" in str(error):
                    continue  # torchvision's verify_str_arg: there is no split of this name
                hint = "" if download else "; data.download=true fetches what torchvision can"
                raise DataError(f"root={self.root} name={self.name}: {_first_line(error)}{hint}") from error
        return None

    def _dataset_class(self) -> Any:
        from torchvision import datasets

        if self.name not in datasets.__all__:
            close = difflib.get_close_matches(self.name, datasets.__all__, n=3, cutoff=0.4)
            near = f"; did you mean {' or '.join(close)}?" if close else ""
            raise DataError(f"name={self.name}: torchvision.datasets has no such data set{near}")
        if self.name in UNSAFE:
            raise DataError(
                f"name={self.name}: torchvision executes what lies beside this data set (a pickle); "
                "write its images into class folders, and take data=folder"
            )
        return getattr(datasets, self.name)

    def _labels(self, dataset: Any) -> list[list[str]]:
        """The class of each item; none where its number is negative."""
        names = getattr(dataset, "classes", [])
        named = bool(names) and len({name for name in names if isinstance(name, str)}) == len(names)
        try:
            numbers = _class_numbers(dataset)
        except (RuntimeError, TypeError, ValueError) as error:
            raise DataError(
                f"name={self.name}: no data set with one class an image ({_first_line(error)})"
            ) from error
        if named and max(numbers, default=-1) >= len(names):  # of Pets, names are those that a split has
            raise DataError(
                f"root={self.root} name={self.name}: {len(set(numbers))} classes, but one of them has number "
                f"{max(numbers)}; a split lacks images: complete it"
            )
        return [[names[n] if named else str(n)] if n >= 0 else [] for n in numbers]


def _split_arguments(dataset_class: Any, split: str) -> list[dict[str, Any]]:
    """Arguments that may select a split, the best first; none where there is no such split."""
    parameters = inspect.signature(dataset_class).parameters
    if "train" in parameters:
        return [] if split == "val" else [{"train": split == "train"}]
    if "split" in parameters:
        return [{"split": name} for name in SPLIT_ARGUMENTS[split]]
    return [{}] if split == "train" else []


def _class_numbers(dataset: Any) -> list[int]:
    """From the list that the data set keeps, under one of torchvision's names for it, else from its items."""
    for name in ("targets", "labels", "_labels", "y"):
        if hasattr(dataset, name):
            numbers = [int(number) for number in getattr(dataset, name)]
            last = len(dataset) - 1
            if len(numbers) == len(dataset) and (last < 0 or numbers[last] == dataset[last][1]):
                return numbers
    return [int(dataset[number][1]) for number in range(len(dataset))]


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
