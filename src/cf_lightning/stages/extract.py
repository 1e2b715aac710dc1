"""The extraction stage: features of every row, for D_cf and for the targets of transfer."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from cf_lightning.config import each_once
from cf_lightning.data.index import Index
from cf_lightning.data.source import Source
from cf_lightning.models.base import TrunkRecipe
from cf_lightning.precision import Precision
from cf_lightning.rows import RowFile, describe_rows, open_rows
from cf_lightning.stages.base import Stage

if TYPE_CHECKING:
    from cf_lightning.features import FeatureExtractionModule

VIEWS = "views"
POOLED = "pooled"  # the name of the penultimate layer
BLOCK = 1024  # samples whose views are averaged at a time


class Extract(Stage):
    """Write ``features.npy``: (N, D), row i is sample i of the index, whatever its split.

    A sample that is seen in V views, such as the clips of a video, has a row of (V, D) in ``views.npy``, and
    their mean in ``features.npy``. Several layers stand beside each other in a row; ``features.json`` has the
    width of each.

    Attributes:
        data: the samples, in the source's deterministic views.
        model: the architecture of the trunk.
        layers: sub-modules' names; none is the pooled penultimate layer (Yan et al. 2020, section 3).
        layer_dim: at most so many numbers of each, see ``models.layers.Layers``; ``null``: a channel's mean.
        dtype: of the file.
        normalize: store features of L2 norm 1.
        batch_size: of one forward pass on one device; it is part of the meaning, for bits change with it.
        precision: ``auto`` is bf16 where it is faster.
        compile: the network, by ``torch.compile``: a minute once, then faster.
        random_seed: of the initialisation where no trained trunk is given (the contestant ``random``).
    """

    VERSION: ClassVar[int] = 2

    data: Source
    model: TrunkRecipe
    layers: Annotated[list[str], each_once("a layer")] = []
    layer_dim: int | None = Field(default=None, ge=1)
    dtype: Literal["float16", "float32"] = "float16"
    normalize: bool = False
    batch_size: int = Field(default=256, ge=1)
    precision: Precision = "auto"
    compile: bool = False
    random_seed: int | None = Field(default=None, ge=0)

    def check(self, **indexes: Index) -> None:
        """The data gives what the network takes, and the network has the layers."""
        self.model.check(self.data)
        if self.layers:
            from cf_lightning.models.layers import check_layers

            check_layers(self.model.sized().network, self.layers)

    def disk_bytes(self, **indexes: Index) -> int | None:
        """N rows of the pooled features; another layer's width is known only when it has run."""
        if self.layers:
            return None
        rows, views = len(indexes["data"]), self.data.view.views
        vectors = rows * (views + 1 if views > 1 else 1)
        return vectors * self.model.sized().feature_dim * (2 if self.dtype == "float16" else 4)

    def operations(self, **indexes: Index) -> float:
        """A forward pass of every view of every row."""
        return len(indexes["data"]) * self.model.operations(self.data.view.shape)

    def run(self, out: Path, **inputs: Path) -> None:
        """Extract the rows that an earlier attempt left missing."""
        import torch

        from cf_lightning.callbacks.row_writer import RowWriter
        from cf_lightning.data.module import SampleDataModule
        from cf_lightning.features import FeatureExtractionModule
        from cf_lightning.models.folding import fold_batch_norm
        from cf_lightning.trainer import build_trainer

        index = Index.read(inputs["data"])
        torch.manual_seed(self.random_seed or 0)
        trunk = self.model.build()
        if "trunk" in inputs:
            trunk.load(inputs["trunk"])
        fold_batch_norm(trunk.eval().network, keep=self.layers)
        dtype = getattr(torch, self.dtype)
        module = FeatureExtractionModule(trunk, self.layers, self.layer_dim, dtype, self.normalize)
        views, widths = self._shape(module)
        name = "features" if self.data.view.views == 1 else VIEWS
        writer = RowWriter(out / f"{name}.npy", (len(index), *views, sum(widths)), self.dtype)
        samples = SampleDataModule(
            self.data,
            index=index,
            targets=index.no_targets(),
            batch_size=self.batch_size,
            workers=self.runtime.num_workers(),
            patience=self.runtime.loader_timeout,
            pending=writer.pending(),
        )
        if self.compile:
            from cf_lightning.models.compiling import compile_network

            compile_network(trunk.network)
        trainer = build_trainer(self.runtime, out, self.precision, [writer])
        trainer.predict(module, samples, return_predictions=False)
        trainer.strategy.barrier()  # every rank has written its rows
        if trainer.is_global_zero:
            writer.finish()
            if name == VIEWS:
                _write_means(out)
                describe_rows(out, VIEWS, index)
            layers = dict(zip(self.layers or [POOLED], widths, strict=True))
            describe_rows(out, "features", index, layers=layers, normalize=self.normalize)
            skipped = [index.key(row) for row in writer.skipped()]
            facts = {"dim": writer.file.shape[-1]} | ({"skipped": skipped} if skipped else {})
            (out / "facts.json").write_text(json.dumps(facts))
        trainer.strategy.barrier()

    def _shape(self, module: "FeatureExtractionModule") -> tuple[tuple[int, ...], list[int]]:
        """The axis of views, if there are several, and the width of each layer, from one black sample."""
        import torch

        black = torch.zeros(1, *self.data.view.shape, dtype=torch.uint8)
        with torch.inference_mode():
            found = module.eval().features(black)
        return tuple(found[0].shape[1:-1]), [one.shape[-1] for one in found]


def _write_means(out: Path) -> None:
    """``features.npy``, (N, D) of the same dtype: the mean of each sample's views, added in float32."""
    views = open_rows(out / f"{VIEWS}.npy")
    num, _, dim = views.shape
    means = RowFile(out / "features.npy", (num, dim), views.dtype)
    for start in range(0, num, BLOCK):
        means.write(start, views[start : start + BLOCK].mean(1, dtype=np.float32).astype(views.dtype))
    means.close()
