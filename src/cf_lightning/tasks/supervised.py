"""Supervised training on class labels."""

from pathlib import Path
from typing import ClassVar

from cf_lightning.data.index import Index
from cf_lightning.data.views import View
from cf_lightning.errors import DataError
from cf_lightning.tasks.base import Targets, Task


class Supervised(Task):
    """Each image's one label; the classes are the index's, in alphabetical order."""

    OF_LABELS: ClassVar[bool] = True

    def check(self, data: Index, view: View) -> None:
        """There must be at least two classes and no image with several."""
        data.single_labels()
        if len(data.classes) < 2:
            raise DataError(
                f"root={data.origin}: {len(data.classes)} classes; training on labels needs 2 "
                "(column data.columns.label)"
            )

    def targets(self, data: Index, **inputs: Path) -> Targets:
        """(N,) int64; -1 where an image has no label."""
        return Targets(data.single_labels(), data.classes)
