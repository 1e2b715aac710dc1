"""What would execute something: classes that a configuration names, pickles; and keys that would be told."""

import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from case import Case
from hostile_place import Place, refused
from omegaconf import OmegaConf

from cf_lightning.clustering.base import Clustering
from cf_lightning.config import build
from cf_lightning.credentials import refuse_in, refuse_on_command_line
from cf_lightning.data.cache import Resized
from cf_lightning.data.manifest import ManifestImages
from cf_lightning.data.torchvision import TorchvisionImages
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.rows import open_rows, read_skipped
from cf_lightning.stages.imported import ImportTrunk

CLUSTER = "cf_lightning.stages.cluster.Cluster"
SECRET = "0123456789abcdef0123456789abcdef01234567"  # no key of anybody
# what a configuration names, and what the message says of it
TARGETS = {
    "a function": ("os.system", "only components of cf_lightning"),
    "a class": ("subprocess.Popen", "only components of cf_lightning"),
    "a builtin": ("eval", "only components of cf_lightning"),
    "a name that begins alike": ("cf_lightning_evil.Engine", "only components of cf_lightning"),
    "nothing": ("", "only components of cf_lightning"),
    "a list": (["os.system"], "only components of cf_lightning"),
    "a relative name": ("cf_lightning..os.system", "only components of cf_lightning"),
    "a module of a module": ("cf_lightning.config.os.system", "no such class"),
    "a module": ("cf_lightning.config.os", "no Component of"),
    "a function of ours": ("cf_lightning.config.instantiate", "no Component of"),
    "a class of others": ("cf_lightning.config.BaseModel", "no Component of"),
    "the package": ("cf_lightning", "no such class"),
}
# words of a command line, and what the message says of them; none of them may repeat the key
WORDS = {
    "a setting": (f"+runtime.logger.api_key={SECRET}", "runtime.logger.api_key=***"),
    "a dictionary": ("runtime.logger={api_key: " + SECRET + "}", "api_key: ***"),
    "the environment": (f"+hydra.job.env_set.WANDB_API_KEY={SECRET}", "WANDB_API_KEY=***"),
    "a token": (f"+teacher.hf_token={SECRET}", "hf_token=***"),
    "a password in a URL": (f"data.root=s3://me:{SECRET}@bucket/a", "***@bucket"),
    "a signed URL": (f"data.root=https://host/a?X-Amz-Signature={SECRET}", "Signature=***"),
    "a key in a URL": (f"data.root=https://host/a?b=c&api_key={SECRET}", "api_key=***"),
}


def cases(kind: str) -> Iterator[Case]:
    for name, (target, word) in TARGETS.items():
        said = refused(partial(_build, target=target), "cluster.engine._target_=", word)
        yield Case(kind, f"class: {name}", said)
        yield Case(kind, f"class in a worker: {name}", refused(partial(_replay, target=target), word))
    yield Case(kind, "class that writes a file", refused(_write, "only components of cf_lightning"))
    said = refused(partial(_build, target="os.system", _partial_=True), "only components of cf_lightning")
    yield Case(kind, "class that is called later", said)
    yield Case(
        kind, "class before all others", refused(_run, "cluster.engine._target_=os.system", "security.allow")
    )
    for name, (load, word) in PICKLES.items():
        yield Case(kind, f"pickle: {name}", refused(load, word))
    for name, (text, word) in WORDS.items():
        yield Case(kind, f"key: {name}", _without_key(refused(partial(_typed, word=text), word)))
        yield Case(kind, f"key composed: {name}", _without_key(refused(partial(_composed, word=text), "***")))


def _engine(place: Place, target: Any, more: dict[str, Any]) -> dict[str, Any]:
    return {"_target_": CLUSTER, "k": 2, "engine": {"_target_": target, "command": place.command, **more}}


def _build(place: Place, target: Any, **more: Any) -> object:
    return build(_engine(place, target, more), "cluster")


def _write(place: Place) -> object:
    """One that Hydra itself would build, with arguments by their places."""
    node = {"_target_": "logging.FileHandler", "_args_": [str(place.canary)]}
    return build({"_target_": CLUSTER, "k": 2, "engine": node}, "cluster")


def _replay(place: Place, target: Any) -> object:
    """A job in the store that somebody has written."""
    from cf_lightning.worker import run_stage

    folder = place.root / "cluster" / "key.partial"
    folder.mkdir(parents=True)
    job = {"node": _engine(place, target, {}), "inputs": {}, "security": {"allow": ["os", "subprocess"]}}
    (folder / "job.json").write_text(json.dumps(job))
    return run_stage(folder)  # type: ignore[func-returns-value]


def _run(place: Place) -> object:
    """It is found before the data, which are not there either, is looked for."""
    from cf_lightning.pipeline import run

    data = {"_target_": "cf_lightning.data.folder.FolderImages", "root": "/no/such/folder"}
    runtime = {"store": str(place.root), "run_dir": str(place.root)}
    node = {"scale": "demo", "plan": False, "security": {"allow": []}, "data": data, "runtime": runtime}
    return run(OmegaConf.create({**node, "cluster": _engine(place, "os.system", {})}))


def _weights(place: Place, write: Callable[[Any, Path], object], ending: str = ".pth") -> object:
    path = place.root / f"weights{ending}"
    write({"state_dict": {"a": torch.zeros(2)}, "evil": place.evil()}, path)
    stage = ImportTrunk(model=TinyTrunk(width=2), path=str(path))
    stage.check()
    return stage.run(place.root)  # type: ignore[func-returns-value]


def _legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _plain(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def _bomb(_: Any, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**25))


def _checkpoint(place: Place) -> object:
    from cf_lightning.callbacks.training_checkpoint import TrainingCheckpoint

    torch.save({"state_dict": {}, "evil": place.evil()}, place.root / TrainingCheckpoint.FILE)
    return TrainingCheckpoint(place.root).found()


def _array(place: Place, name: str, load: Callable[[Path], object]) -> object:
    array = np.empty(2, object)
    array[:] = [place.evil(), place.evil()]
    np.save(place.root / name, array, allow_pickle=True)
    return load(place.root)


def _centroids(folder: Path) -> object:
    from cf_lightning.clustering.lloyd import _load

    return _load(str(folder / "a.npy"), (2, 3))


def _arrays(place: Place) -> object:
    np.savez(place.root / "a.npz", centroids=np.array([place.evil()], object), inertia=np.zeros(1))
    return Clustering.saved(place.root / "a.npz")


def _parquet(place: Place) -> object:
    """A type of Arrow that once was unpickled when it was read (CVE-2023-47248)."""
    about = {"ARROW:extension:name": "arrow.py_extension_type"}
    about["ARROW:extension:metadata"] = pickle.dumps(place.evil(), protocol=0).decode("latin-1")
    schema = pa.schema([pa.field("path", pa.struct([("a", pa.string())]), metadata=about)])
    pq.write_table(pa.Table.from_pylist([{"path": {"a": "b.png"}}], schema), place.root / "list.parquet")
    return ManifestImages(root=str(place.root), manifest="list.parquet").index()


def _cifar(place: Place) -> object:
    folder = place.root / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("batches.meta", "test_batch", *(f"data_batch_{number}" for number in range(1, 6))):
        (folder / name).write_bytes(pickle.dumps(place.evil()))
    return TorchvisionImages(name="CIFAR10", root=str(place.root)).index()


def _lsun(place: Place) -> object:
    return TorchvisionImages(name="LSUN", root=str(place.root)).index()


# who reads a pickle, and what the message says
PICKLES = {
    "weights": (partial(_weights, write=torch.save), "without executing it"),
    "weights as before 2020": (partial(_weights, write=_legacy), "without executing it"),
    "weights of the module pickle": (partial(_weights, write=_plain, ending=".bin"), "without executing it"),
    "weights by another name": (partial(_weights, write=_plain, ending=".safetensors"), "damaged"),
    "weights like a bomb": (partial(_weights, write=_bomb, ending=".pt"), "damaged"),
    "checkpoint": (_checkpoint, "without executing it"),
    "rows": (partial(_array, name="a.npy", load=lambda folder: open_rows(folder / "a.npy")), "a.npy"),
    "rows left out": (partial(_array, name="skipped.npy", load=read_skipped), "skipped.npy"),
    "places of resized images": (partial(_array, name=Resized.PLACES, load=Resized.found), Resized.PLACES),
    "centroids": (partial(_array, name="a.npy", load=_centroids), "cluster.engine.path"),
    "an interrupted k-means": (_arrays, "a.npz"),
    "parquet": (_parquet, "list.parquet"),
    "a published set that was exchanged": (_cifar, "corrupted"),
    "a published set with a cache": (_lsun, "executes"),
}


def _typed(place: Place, word: str) -> object:
    return refuse_on_command_line(["+experiment=demo", word])  # type: ignore[func-returns-value]


def _composed(place: Place, word: str) -> object:
    key, _, value = word.partition("=")
    return refuse_in({"a": [{key.rpartition(".")[2]: value}]})  # type: ignore[func-returns-value]


def _without_key(attempt: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """The key is not in the message."""
    from case import Outcome

    def whole(folder: Path) -> Outcome:
        outcome: Outcome = attempt(folder)
        return Outcome(lost=1, note="the key is told") if SECRET in outcome.note else outcome

    return whole
