"""Whether a data set is whole: the classes and samples that it was published with."""

from collections import Counter
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from cf_lightning.errors import DataError

Count = Literal["classes", "samples", "train", "val", "test"]


def check_counts(table: pa.Table, expected: dict[Count, int] | None, root: str | None) -> None:
    """Compare a data set with what it should hold.

    Args:
        table: its samples as they are listed, with the columns of ``index.SCHEMA``.
        expected: how many classes, samples in all, and samples of a split; what is not named may be anything.
        root: for the message.

    Raises:
        DataError: a number is another one.
    """
    classes = len(pc.list_flatten(table["labels"]).unique())
    found = Counter({"classes": classes, "samples": len(table), **Counter(table["split"].to_pylist())})
    wrong = [name for name, number in (expected or {}).items() if found[name] != number]
    if expected and wrong:
        parts = [f"{name} {found[name]:,} (published: {expected[name]:,})" for name in wrong]
        raise DataError(
            f"root={root}: not as published: {', '.join(parts)}; complete it, or take what is there with "
            f"expected=null"
        )
