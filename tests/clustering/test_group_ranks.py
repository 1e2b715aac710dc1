"""The engines that use every process, in one, two and three of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from cf_lightning.clustering.base import Fit, KMeans
from cf_lightning.clustering.clusterer import Clusterer
from cf_lightning.clustering.group import ALONE, Group
from cf_lightning.clustering.lloyd import LloydKMeans
from cf_lightning.config import build, conf_dir
from samples import Recorder, assert_ranks_agree, blobs, fit, hard_kinds, unit


def engines() -> dict[str, KMeans]:
    """Those of ``conf/cluster/engine`` that use every process, as their YAML files have them."""
    files = sorted((conf_dir() / "cluster" / "engine").glob("*.yaml"))
    nodes: dict[str, Any] = {file.stem: OmegaConf.to_container(OmegaConf.load(file)) for file in files}
    built = {name: build(node, name) for name, node in nodes.items()}
    return {name: engine for name, engine in built.items() if engine.RANKS == "all"}


CASES: dict[str, tuple[np.ndarray, KMeans, int]] = {
    **{kind: (points, LloydKMeans(iterations=8), 12) for kind, points in hard_kinds().items()},
    **{name: (blobs(600), engine, 20) for name, engine in engines().items()},
    "random": (blobs(600), LloydKMeans(iterations=8, init="random"), 20),
    "kmeans++": (blobs(600), LloydKMeans(iterations=8, init="kmeans++"), 20),
    "spherical": (unit(blobs(600)), LloydKMeans(iterations=8, spherical=True), 20),
    "one cluster": (blobs(100), LloydKMeans(), 1),
    "fewer rows than ranks": (blobs(2), LloydKMeans(), 2),
}


def run_all(folder: Path, interrupted: Path) -> None:
    """Write what every case gives; ``interrupted`` holds what another group has begun."""
    for case, (points, engine, k) in CASES.items():
        every, job = np.arange(len(points)), Fit()
        if case == "blobs":
            job = Fit(folder=interrupted)
        found = Clusterer(k=k, engine=engine).cluster(points, every, every[:0], job)
        np.savez(
            folder / f"{case}.npz",
            centroids=found.centroids,
            labels=found.labels,
            distances=found.distances,
            inertia=found.inertia,
        )


@pytest.mark.slow
@pytest.mark.parametrize("num_ranks", [2, 3])
def test_any_number_of_ranks_gives_the_same_bits_to_each(num_ranks: int, tmp_path: Path) -> None:
    points, engine, k = CASES["blobs"]
    begun = Fit(folder=tmp_path, watch=Recorder(stop_in=4))
    with pytest.raises(Recorder.Stop):  # what one process has begun, several continue
        fit(engine, points, k, **vars(begun))
    (tmp_path / "alone").mkdir()
    (tmp_path / "fresh").mkdir()
    run_all(tmp_path / "alone", tmp_path / "fresh")
    assert_ranks_agree("test_group_ranks", num_ranks, tmp_path, list(CASES), tmp_path)


def test_shares_cover_every_row_once() -> None:
    for num_rows in (0, 1, 2, 10, 1001):
        for size in (1, 2, 3, 7):
            shares = [Group(rank, size).share(num_rows) for rank in range(size)]
            assert [row for start, stop in shares for row in range(start, stop)] == list(range(num_rows))
            assert max(stop - start for start, stop in shares) <= num_rows // size + 1


def test_alone_there_is_nothing_to_add() -> None:
    assert Group.current() == ALONE
    array = np.arange(3.0)
    ALONE.sum(array)
    ALONE.max(array)
    assert array.tolist() == [0, 1, 2]
