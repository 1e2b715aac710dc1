"""Clusters of what the network in training sees: DeepCluster (Caron et al., ECCV 2018)."""

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from cf_lightning.clustering.clusterer import Clusterer

if TYPE_CHECKING:
    from cf_lightning.callbacks.recluster import Reclustering


class Recluster(Clusterer):
    """The student clusters its own features anew; the teacher's clusters are its targets until then.

    Attributes: see ``Clusterer``, and
        every_n_epochs: n, with a head that is initialised anew each time.
    """

    every_n_epochs: int = Field(default=1, ge=1)

    def callback(self, fit_rows: np.ndarray) -> "Reclustering":
        """What does it in a fit.

        Args:
            fit_rows: (n,) int64, the training samples.
        """
        from cf_lightning.callbacks.recluster import Reclustering

        return Reclustering(
            self.k,
            engine=self.engine,
            seed=self.seed,
            pca=self.space.pca,
            whiten=self.space.whiten,
            normalize=self.space.normalize,
            max_points_per_centroid=self.max_points_per_centroid,
            fit_rows=fit_rows,
            every_n_epochs=self.every_n_epochs,
        )
