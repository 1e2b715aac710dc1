"""The extraction stage: features of every row, for D_cf and for the targets of transfer."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cf_lightning.data.index import Index
from cf_lightning.data.source import ImageSource
from cf_lightning.models.base import TrunkRecipe
from cf_lightning.precision import Precision
from cf_lightning.stages.base import Stage

if TYPE_CHECKING:
    from cf_lightning.features import FeatureExtractionModule


class Extract(Stage):
    """Write ``features.npy``: (N, D), row i is sample i of the index, whatever its split.

    Attributes:
        data: the images, in the source's deterministic view.
        model: the architecture of the trunk.
        layer: a sub-module's name; ``null`` is the pooled penultimate layer (Yan et al. 2020, section 3).
        dtype: of the file.
        normalize: store features of L2 norm 1.
        batch_size: of one forward pass on one device; it is part of the meaning, for bits change with it.
        precision: ``auto`` is bf16 where it is faster.
        random_seed: of the initialisation where no trained trunk is given (the contestant ``random``).
    """

    data: ImageSource
    model: TrunkRecipe
    layer: str | None = None
    dtype: Literal["float16", "float32"] = "float16"
    normalize: bool = False
    batch_size: int = Field(default=256, ge=1)
    precision: Precision = "auto"
    random_seed: int | None = Field(default=None, ge=0)

    def disk_bytes(self, **indexes: Index) -> int | None:
        """N rows of the pooled features; another layer's width is known only when it has run."""
        if self.layer is not None:
            return None
        dim = self.model.sized().feature_dim
        return len(indexes["data"]) * dim * (2 if self.dtype == "float16" else 4)

    def run(self, out: Path, **inputs: Path) -> None:
        """Extract the rows that an earlier attempt left missing."""
        import torch

        from cf_lightning.callbacks.row_writer import RowWriter
        from cf_lightning.data.images import ImageDataModule
        from cf_lightning.features import FeatureExtractionModule
        from cf_lightning.rows import describe_rows
        from cf_lightning.trainer import build_trainer

        index = Index.read(inputs["data"])
        torch.manual_seed(self.random_seed or 0)
        trunk = self.model.build()
        if "trunk" in inputs:
            trunk.load(inputs["trunk"])
        module = FeatureExtractionModule(trunk, self.layer, getattr(torch, self.dtype), self.normalize)
        writer = RowWriter(out / "features.npy", (len(index), self._dim(module)), self.dtype)
        images = ImageDataModule(
            self.data,
            index=index,
            targets=index.no_targets(),
            batch_size=self.batch_size,
            workers=self.runtime.num_workers(),
            pending=writer.pending(),
        )
        trainer = build_trainer(self.runtime, out, self.precision, [writer])
        trainer.predict(module, images, return_predictions=False)
        trainer.strategy.barrier()  # every rank has written its rows
        if trainer.is_global_zero:
            writer.finish()
            describe_rows(out, "features", index, layer=self.layer, normalize=self.normalize)
            skipped = [index.key(row) for row in writer.skipped()]
            facts = {"dim": writer.file.shape[1]} | ({"skipped": skipped} if skipped else {})
            (out / "facts.json").write_text(json.dumps(facts))
        trainer.strategy.barrier()

    def _dim(self, module: "FeatureExtractionModule") -> int:
        """D, from one black image."""
        import torch

        crop = self.data.view.crop
        with torch.inference_mode():
            return int(module.eval().features(torch.zeros(1, 3, crop, crop, dtype=torch.uint8)).shape[1])
