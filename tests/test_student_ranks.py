"""The student's options on two processes and on one, stopped in the middle and not.

One group of two processes trains every case of ``CASES``, each into a folder of its own.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file

from cf_lightning.callbacks.history import History
from cf_lightning.callbacks.training_checkpoint import TrainingCheckpoint
from cf_lightning.config import build, conf_dir, register_resolvers
from cf_lightning.rows import describe_rows
from cf_lightning.stages.train import Train

K = 12
SMALL = (
    *("+experiment=demo", "data=folder", f"cluster.k={K}", "cluster/engine=lloyd", "model.width=4"),
    *("clusterfit.batch_size=16", "clusterfit.precision=32-true", "clusterfit.epochs=3"),
    *("runtime.accelerator=cpu", "runtime.progress=false", "runtime.workers=0"),
)
DIVIDED = "runtime.divide_head=2"
RATE = "clusterfit.task.head.rate=0.3"
AGAIN = "clusterfit/recluster=kmeans"
SHARD = "runtime.shard=true"
VIT = "clusterfit.model={_target_:cf_lightning.models.timm.TimmTrunk,name:test_vit}"
CASES = {
    "drawn": ("clusterfit.mix.mixup=0.2", "clusterfit.mix.cutmix=1", "clusterfit.task.power=1", RATE),
    "averaged": ("clusterfit.ema=0.9", "clusterfit/loss=mlcd", "clusterfit/head=cosine"),
    "reclustered": (AGAIN, "clusterfit.recluster.every_n_epochs=1"),
    "divided": (DIVIDED, "clusterfit.task.loss.label_smoothing=0.1", "training@clusterfit=adamw"),
    "divided, some": (DIVIDED, RATE, "clusterfit/head=cosine", "clusterfit.task.head.scale=8"),
    "in passes": ("clusterfit.accumulate=2", RATE, "clusterfit.mix.mixup=0.2", "clusterfit.ema=0.9"),
    "divided, in passes": (DIVIDED, "clusterfit.accumulate=4", RATE, "training@clusterfit=adamw"),
    "divided, reclustered": (DIVIDED, AGAIN, "clusterfit.recluster.every_n_epochs=2"),
    "sharded": (SHARD, VIT, RATE, "clusterfit.ema=0.9", "training@clusterfit=adamw"),
    "sharded, divided": (SHARD, VIT, DIVIDED),
    "sharded, in passes": (SHARD, VIT, "clusterfit.accumulate=2"),
    "sharded, compiled": (SHARD, VIT, "clusterfit.compile=true"),
    "sharded, batch norm": (SHARD,),
}
RESUMED = ("divided, some", "sharded")
Weights = dict[str, torch.Tensor]


class Stop(Exception):
    """Stands for whatever ends a process."""


def train(folder: Path, out: Path, devices: int, *more: str) -> Weights:
    """One training, or its continuation; the weights of trunk and head."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        root = f"data.root={folder / 'images'}"
        cfg = compose("config", [*SMALL, *more, root, f"runtime.devices={devices}"])
    node: Any = OmegaConf.to_container(cfg.clusterfit, resolve=True)
    stage = build({n: v for n, v in node.items() if n not in ("relabel", "warm_start")}, "clusterfit")
    assert isinstance(stage, Train)
    out.mkdir(exist_ok=True)
    stage.run(out, data=folder / "data", labels=folder / "labels")
    return weights(out)


def weights(out: Path) -> Weights:
    trunk, head = (load_file(out / f"{part}.safetensors") for part in ("trunk", "head"))
    return {**trunk, **{f"head.{name}": value for name, value in head.items()}}


def stop(epoch: int, folder: Path, out: Path, devices: int, *more: str) -> None:
    """The same, but it ends after the first batch of an epoch; after the last, before it publishes."""

    def end(self: Callback, trainer: Any, *_: Any) -> None:
        if trainer.current_epoch == epoch:
            raise Stop

    def end_all(*_: Any) -> None:
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingCheckpoint, "on_train_batch_end", end)
        patch.setattr(Train, "_write", end_all)
        with pytest.raises(Stop):
            train(folder, out, devices, *more)


def preempt(folder: Path, out: Path, devices: int, *more: str) -> None:
    """The same, but the last process is sent a signal in the middle of the second epoch.

    Until then each holds its part of the trunk.
    """

    def ask(self: Callback, trainer: Any, module: Any, *_: Any) -> None:
        if trainer.global_step == 5 and trainer.global_rank == devices - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        state = trainer.optimizers[0].state
        for weight in module.trunk.parameters():
            for tensor in (weight, state[weight]["exp_avg"], state[weight]["exp_avg_sq"]):
                assert tensor.to_local().numel() <= -(-tensor.shape[0] // devices) * tensor[0].numel()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(History, "on_train_batch_end", ask)
        with pytest.raises(SystemExit):
            train(folder, out, devices, *more)


def train_all(folder: Path) -> None:
    """What each of the two processes does."""
    for case, options in CASES.items():
        print(case, flush=True)  # before what goes wrong
        train(folder, folder / case, 2, *options)
    for case in RESUMED:
        print("resumed:", case, flush=True)
        stop(1, folder, folder / f"{case}, resumed", 2, *CASES[case])
        torch.distributed.barrier()
        if torch.distributed.get_rank() == 0:
            shutil.copytree(folder / f"{case}, resumed", folder / f"{case}, left by two")
        train(folder, folder / f"{case}, resumed", 2, *CASES[case])
        train(folder, folder / f"{case}, left by one", 2, *CASES[case])
    preempt(folder, folder / "preempted", 2, *CASES["sharded"])
    train(folder, folder / "preempted", 2, *CASES["sharded"])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three colours, their index, and clusters that know the colour."""
    folder, rng = tmp_path_factory.mktemp("students"), np.random.default_rng(0)
    for number in range(72):
        pixels = np.clip(rng.normal(60, 30, (20, 20, 3)) + 120 * np.eye(3)[number % 3], 0, 255)
        (folder / "images" / str(number % 3)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"images/{number % 3}/{number}.png")
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        data: Any = compose("config", [*SMALL, f"data.root={folder / 'images'}"]).data
    node: Any = OmegaConf.to_container(data, resolve=True)
    index = build(node, "data").index()
    for name in ("data", "labels"):
        (folder / name).mkdir()
    index.write(folder / "data")
    labels = np.sort(rng.integers(K, size=len(index)))
    np.save(folder / "labels" / "labels.npy", labels)
    describe_rows(folder / "labels", "labels", index, k=K)
    return folder


@pytest.fixture(scope="module")
def on_two(inputs: Path) -> Path:
    """The same folder, after two processes have trained every case."""
    for case in RESUMED:
        stop(1, inputs, inputs / f"{case}, left by one", 1, *CASES[case])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, __file__, str(inputs)], check=True, env=environment, timeout=600)
    return inputs


def assert_close(one: Weights, other: Weights) -> None:
    assert one.keys() == other.keys()
    for name, expected in one.items():
        np.testing.assert_allclose(other[name], expected, rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_agree_with_one(case: str, on_two: Path, tmp_path: Path) -> None:
    assert_close(train(on_two, tmp_path / "alone", 1, *CASES[case]), weights(on_two / case))


@pytest.mark.slow
@pytest.mark.parametrize("case", RESUMED)
def test_what_is_divided_goes_on_as_if_undisturbed_and_on_any_number_of_processes(
    case: str, on_two: Path
) -> None:
    undisturbed, resumed = weights(on_two / case), weights(on_two / f"{case}, resumed")
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)
    assert_close(undisturbed, weights(on_two / f"{case}, left by one"))
    assert_close(undisturbed, train(on_two, on_two / f"{case}, left by two", 1, *CASES[case]))


@pytest.mark.slow
def test_a_divided_trunk_goes_on_from_the_batch_after_which_a_process_was_asked_to_end(
    on_two: Path,
) -> None:
    undisturbed, resumed = weights(on_two / "sharded"), weights(on_two / "preempted")
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)


@pytest.mark.parametrize(
    ("options", "epoch"),
    [
        ((*CASES["drawn"], "clusterfit.ema=0.9"), 1),
        (("clusterfit.ema=0.9",), 3),
        (CASES["in passes"], 1),
        ((AGAIN, "clusterfit.recluster.every_n_epochs=2", "clusterfit.epochs=4"), 3),
    ],
    ids=["drawn and averaged", "after the last epoch", "in passes", "after a reclustering"],
)
def test_resumed_equals_undisturbed(
    options: tuple[str, ...], epoch: int, inputs: Path, tmp_path: Path
) -> None:
    undisturbed = train(inputs, tmp_path / "whole", 1, *options)
    stop(epoch, inputs, tmp_path / "parts", 1, *options)
    resumed = train(inputs, tmp_path / "parts", 1, *options)
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)
    for file in ("history.csv", "facts.json"):
        assert (tmp_path / "whole" / file).read_text() == (tmp_path / "parts" / file).read_text()


if __name__ == "__main__":
    torch.distributed.init_process_group("gloo")
    train_all(Path(sys.argv[1]))
    torch.distributed.destroy_process_group()
