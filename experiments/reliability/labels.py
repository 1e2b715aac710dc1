"""Every pseudo label belongs to its sample, and a key changes when the result would, and only then."""

import io
import random
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from album import Album
from case import Case, Outcome
from composed import composed
from omegaconf import OmegaConf
from safetensors.torch import save_file

from cf_lightning.config import build
from cf_lightning.console import Console
from cf_lightning.data.images import ImageDataModule
from cf_lightning.data.index import Index
from cf_lightning.data.views import Augmentation
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.pipeline import method
from cf_lightning.plan import Plan
from cf_lightning.store import Store

Keys = dict[str, str]

# what is done to the files, and whether it is another data set then
EDITS: dict[str, tuple[Callable[[Album], None], bool]] = {
    "touch": (Album.touch, False),
    "move away": (Album.move_away, False),
    "add": (Album.add, True),
    "remove": (Album.remove, True),
    "rename": (Album.rename, True),
    "another class": (Album.reclass, True),
    "repaint": (Album.repaint, True),
}
ONE_PROCESS, TWO_PROCESSES = 50, 10  # scenarios


def cases() -> Iterator[Case]:
    """60 scenarios."""
    for processes, count in ((1, ONE_PROCESS), (2, TWO_PROCESSES)):
        for number in range(count):
            name = f"{processes} process{'es' * (processes > 1)}, {number}"
            yield Case("labels", name, partial(scenario, name, processes))


def scenario(name: str, processes: int, folder: Path) -> Outcome:
    """Cluster, edit the files, cluster again, three times, each time with other machine settings."""
    rng = random.Random(name)
    album = Album(folder / "album", rng, pairs=rng.randint(8, 30))
    torch.manual_seed(rng.randrange(1000))
    save_file(TinyTrunk(width=4).build().network.state_dict(), folder / "weights.safetensors")
    engine, batch_size = rng.choice(["faiss", "lloyd"]), rng.randint(3, 20)
    fixed = [f"cluster/engine={engine}", f"extract.batch_size={batch_size}", "cluster.k=5"]
    found = look(album, folder, [*fixed, f"runtime.devices={processes}"], rng)
    wrong, lost, told = found.wrong, 0, [engine]
    for _ in range(1 if processes > 1 else 3):
        edit = rng.choice(list(EDITS))
        change, is_other_data = EDITS[edit]
        change(album)
        after = look(album, folder, [*fixed, f"cluster.seed={rng.randrange(2)}"], rng)
        moved = {stage for stage in found.keys if found.keys[stage] != after.keys[stage]}
        reseeded = {"cluster"} if found.seed != after.seed else set()
        expected = {"index", "extract", "space", "cluster"} if is_other_data else reseeded
        lost += moved != expected
        wrong += after.wrong
        told.append(f"{edit}: {'+'.join(sorted(moved)) or 'no'} key moved")
        found = after
    return Outcome(lost=lost, wrong_label=wrong, note=", ".join(told))


@dataclass(frozen=True)
class Look:
    """What one run found: its keys by stage, its seed, and how many samples got another's label."""

    keys: Keys
    seed: int
    wrong: int


def look(album: Album, folder: Path, overrides: list[str], rng: random.Random) -> Look:
    """Extract and cluster the album, with what of the machine may differ drawn anew."""
    cfg = configuration(
        *("+experiment=demo", "data=folder", f"data.root={album.root}", "data.view.resize=24"),
        *("data.view.crop=20", "teacher=file", "model@teacher.model=tiny", "teacher.model.width=4"),
        *(f"teacher.path={folder / 'weights.safetensors'}", "extract.precision=32-true"),
        *("extract.dtype=float32", "cluster.space.normalize=none", "runtime.accelerator=cpu"),
        *(f"runtime.store={folder / 'store'}", f"runtime.workers={rng.randrange(3)}", *overrides),
    )
    plan = Plan(Store(cfg["runtime"]["store"]))
    chain = method(plan, cfg)
    plan.steps = [step for step in plan.steps if step.stage not in ("cluster_report", "clusterfit")]
    with redirect_stdout(io.StringIO()):
        plan.check()
        plan.run(Console())
    (teacher,), (labels,) = chain.teachers, chain.clusterings
    rows = np.load(plan.folder(teacher.features) / "features.npy")
    ids, centroids = (np.load(plan.folder(labels) / f"{name}.npy") for name in ("labels", "centroids"))
    index = chain.data.index
    assert index is not None
    keys = {step.stage: step.key for step in (chain.data, teacher.extracted, teacher.features, labels)}
    wrong = mixed_up(album, index, rows, ids.reshape(len(index)), centroids)
    wrong += mixed_up_in_training(album, cfg["data"], index, ids.reshape(len(index)), rng)
    return Look(keys, cfg["cluster"]["seed"], wrong)


def mixed_up(album: Album, index: Index, rows: np.ndarray, ids: np.ndarray, centroids: np.ndarray) -> int:
    """The samples with another's features or label: the nearest to each must be its twin.

    Args:
        album: what was listed.
        index: N samples.
        rows: (N, D) what was clustered.
        ids: (N,) of the clusters.
        centroids: (K, D).
    """
    row_of = {index.key(row): row for row in range(len(index))}
    if set(row_of) != set(album.colours):
        return len(index)
    twin = np.empty(len(index), np.int64)
    for key, other in album.twins().items():
        twin[row_of[key]] = row_of[other]
    wide = rows.astype(np.float64)
    apart = np.square(wide[:, None] - wide).sum(-1)
    to_twin = apart[np.arange(len(index)), twin]
    np.fill_diagonal(apart, np.inf)
    to_centroids = np.square(wide[:, None] - centroids.astype(np.float64)).sum(-1)
    own = to_centroids[np.arange(len(index)), ids]
    other_features = to_twin > apart.min(1)
    other_label = (own > to_centroids.min(1) * (1 + 1e-5) + 1e-9) | (ids != ids[twin])
    return int(np.count_nonzero(other_features | other_label))


def mixed_up_in_training(
    album: Album, source: dict[str, Any], index: Index, ids: np.ndarray, rng: random.Random
) -> int:
    """The samples of two epochs of the student that come in another's colour or with another's label."""
    data = ImageDataModule(
        build(source, "data"),
        index=index,
        targets=ids,
        augmentation=Augmentation(min_area=0.3),
        batch_size=rng.randint(2, 6),
        seed=rng.randrange(1000),
        workers=rng.randrange(3),
    )
    loader, wrong = data.train_dataloader(), 0
    for _ in range(2):
        for images, targets, rows in loader:
            seen = images.float().mean((2, 3)).numpy()
            right = np.array([album.colours[index.key(int(row))] for row in rows])
            wrong += int(np.count_nonzero(np.abs(seen - right).max(1) > 1))
            wrong += int(np.count_nonzero(targets.numpy() != ids[rows.numpy()]))
    return wrong


def configuration(*overrides: str) -> dict[str, Any]:
    """What the command line would resolve to."""
    node = OmegaConf.to_container(composed(*overrides), resolve=True)
    assert isinstance(node, dict)
    return node  # type: ignore[return-value]
