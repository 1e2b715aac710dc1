"""ClusterFit (Yan et al., CVPR 2020) as a PyTorch Lightning training framework."""

import importlib
from typing import Any

_PUBLIC = {
    "FeatureExtractionModule": "cf_lightning.features",
    "ImageDataModule": "cf_lightning.data.images",
    "KMeansCallback": "cf_lightning.callbacks.kmeans",
    "PseudoLabelClassifier": "cf_lightning.tasks.pseudo_labels",
    "Trunk": "cf_lightning.models.trunk",
    "load_trunk": "cf_lightning.export.load",
    "VideoClipDataModule": "cf_lightning.data.clips",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Import a public class when it is first used: lightning takes seconds to import."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
