"""Fine-tuning: what it begins with, what it measures, and that nothing disturbs it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cf_lightning.callbacks.row_writer import RowWriter
from cf_lightning.callbacks.training_checkpoint import TrainingCheckpoint
from cf_lightning.console import Console
from cf_lightning.data.folder import FolderImages, FolderVideos
from cf_lightning.data.index import Index
from cf_lightning.data.manifest import ManifestImages
from cf_lightning.data.source import Source
from cf_lightning.data.views import Augmentation, View
from cf_lightning.errors import ConfigError, DataError
from cf_lightning.heads.scores import Scores
from cf_lightning.models.base import TrunkRecipe
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.models.tiny_video import TinyVideoTrunk
from cf_lightning.optimization import SGD
from cf_lightning.plan import Plan
from cf_lightning.runtime import Runtime
from cf_lightning.stages.finetune import Finetune
from cf_lightning.store import Store
from cf_lightning.tasks.multi_label import MultiLabel
from cf_lightning.transfer.average_precision import mean_average_precision
from cf_lightning.transfer.ranking import Ranking
from videos import numbered_frames, write_video

State = dict[str, torch.Tensor]
ImageFolder = Callable[..., Path]
ARTIFACT = {
    *("trunk.safetensors", "head.safetensors", "classes.json", "history.csv"),
    *("ranks.npy", "ranks.done", "skipped.npy", "metrics.json", "draws.npy", "facts.json"),
}


class Stop(Exception):
    """Stands for whatever ends a process."""


def images(root: Path, **settings: Any) -> tuple[Source, TrunkRecipe]:
    view = {"resize": 20, "crop": 16}
    source = FolderImages(root=str(root), view=view, holdout=0.3, split_seed=0, **settings)  # type: ignore[arg-type]
    return source, TinyTrunk(width=2)


def clips(root: Path, per_class: int = 6, **settings: Any) -> tuple[Source, TrunkRecipe]:
    """Classes are the numbers that their videos show."""
    for number in range(3 * per_class):
        frames = numbered_frames(8, 20, 20, 40 * number)
        write_video(root / "abc"[number % 3] / f"{number}.mp4", frames)
    view = {"resize": 20, "crop": 16, "frames": 2, "clips_per_video": 3}
    source = FolderVideos(root=str(root), view=view, holdout=0.3, split_seed=0, **settings)  # type: ignore[arg-type]
    return source, TinyVideoTrunk(width=2)


@pytest.fixture(params=["images", "clips"])
def target(request: pytest.FixtureRequest, image_folder: ImageFolder, tmp_path: Path) -> Any:
    if request.param == "images":
        return images(image_folder(per_class=10))
    return clips(tmp_path / "videos")


def finetune(source: Source, model: TrunkRecipe, lr: float = 0.5, **settings: Any) -> Finetune:
    fields: dict[str, Any] = {"epochs": 2, "batch_size": 4, "precision": "32-true"} | settings
    return Finetune(
        data=source,
        model=model,
        optimization=SGD(lr=lr),
        augmentation=Augmentation(),
        runtime=Runtime(accelerator="cpu"),
        **fields,
    )


def run(stage: Finetune, out: Path, **inputs: Path) -> Index:
    """Run into ``out``, beside which the index lies."""
    data = out.with_suffix(".index")
    for folder in (data, out):
        folder.mkdir(exist_ok=True)
    index = stage.data.index()
    index.write(data)
    stage.run(out, data=data, **inputs)
    return index


def trunk(model: TrunkRecipe, folder: Path) -> Path:
    """The artifact of a contestant."""
    folder.mkdir()
    torch.manual_seed(5)
    model.build().save(folder)
    return folder


def by_hand(stage: Finetune, index: Index, out: Path) -> list[int]:
    """The ranks that the written network gives, sample by sample and view by view."""
    network = stage.model.build().network.eval()
    state, head = load_file(out / "trunk.safetensors"), load_file(out / "head.safetensors")
    network.load_state_dict(
        {name.removeprefix("network."): tensor for name, tensor in state.items() if "." in name}
    )
    view, ranks = stage.data.view.build(), []
    for row in index.rows("val").tolist():
        shown = view(stage.data.sample(index, row))
        views = shown if stage.data.view.views > 1 else shown[None]
        with torch.inference_mode():
            features = [network(((one / 255 - state["mean"]) / state["std"])[None])[0] for one in views]
            probabilities = [(head["weight"] @ one + head["bias"]).softmax(0) for one in features]
        mean = torch.stack(probabilities).mean(0)
        truth = index.classes.index(index.key(row).split("/")[0])
        ranks.append(int((mean > mean[truth]).sum()))
    return ranks


def test_the_ranks_are_those_of_the_written_network_and_each_test_sample_is_there_once(
    target: tuple[Source, TrunkRecipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: list[int] = []
    write = RowWriter.write

    def noted(self: RowWriter, index: torch.Tensor, ranks: torch.Tensor) -> None:
        tested.extend(set(index.tolist()))  # the last batch is filled up with its last row
        write(self, index, ranks)

    monkeypatch.setattr(RowWriter, "write", noted)
    stage, out = finetune(*target), tmp_path / "out"
    stage.check(data=stage.data.index())
    index = run(stage, out)

    ranks = np.load(out / "ranks.npy")[:, 0].tolist()
    assert ranks == by_hand(stage, index, out)
    assert len(set(ranks)) > 1, "neither all right nor all wrong"
    assert sorted(tested) == list(range(len(index.rows("val"))))
    (top1,) = json.loads((out / "metrics.json").read_text())
    assert (top1["protocol"], top1["layer"], top1["metric"]) == ("finetune", "all", "top1")
    assert (top1["value"], top1["n_test"]) == (ranks.count(0) / len(ranks), len(ranks))
    counts = {"n_train": len(index.rows("train")), "skipped": 0, "views": stage.data.view.views}
    assert top1["details"].items() >= {**counts, "epochs": 2, "batch_size": 4}.items()
    assert json.loads((out / "facts.json").read_text()) == {"top1": round(100 * top1["value"], 1)}
    assert {file.name for file in out.iterdir()} == ARTIFACT


def test_the_written_head_is_the_one_that_measures(
    target: tuple[Source, TrunkRecipe], tmp_path: Path
) -> None:
    stage, out = finetune(*target, epochs=1), tmp_path / "out"
    run(stage, out)
    trained = np.load(out / "ranks.npy")[:, 0].tolist()
    torch.manual_seed(0)
    save_file({"weight": torch.randn(3, 16), "bias": torch.zeros(3)}, out / "head.safetensors")
    (out / "ranks.npy").unlink()

    index = run(stage, out)

    ranks = np.load(out / "ranks.npy")[:, 0].tolist()
    assert ranks == by_hand(stage, index, out)
    assert ranks != trained


def test_of_views_the_probabilities_are_averaged_and_not_the_logits() -> None:
    views = torch.tensor([[4.0, 0.0, 0.0], [0.0, 1.5, 0.0], [0.0, 1.5, 0.0]])
    assert views.mean(0).argmax() == 0
    assert views.softmax(1).mean(0).argmax() == 1
    logits_as_given: Any = torch.nn.Identity()
    batch = (torch.stack([views, views]), torch.tensor([0, 1]), torch.tensor([7, ~8]))

    index, ranks = Ranking(logits_as_given).predict_step(batch, 0)

    assert index.tolist() == [7, ~8]
    assert ranks.tolist() == [[1], [0]]


def test_it_begins_with_the_trunk_given_and_else_from_scratch(
    target: tuple[Source, TrunkRecipe], tmp_path: Path
) -> None:
    source, model = target
    given = trunk(model, tmp_path / "given")
    stage = finetune(source, model, lr=1e-30, epochs=1, seed=3)
    run(stage, tmp_path / "warm", trunk=given)
    run(stage, tmp_path / "scratch")

    torch.manual_seed(3)
    starts = {"warm": load_file(given / "trunk.safetensors"), "scratch": model.build().state_dict()}
    parameters = [name for name, _ in model.build().named_parameters()]  # batch norm counts whatever the rate
    written = {name: load_file(tmp_path / name / "trunk.safetensors") for name in starts}
    for name, start in starts.items():
        for one in parameters:
            torch.testing.assert_close(written[name][one], start[one], rtol=0, atol=1e-20)
    assert not torch.equal(written["warm"]["network.0.weight"], written["scratch"]["network.0.weight"])


def test_a_skipped_test_sample_is_counted_and_has_no_say(tmp_path: Path) -> None:
    source, model = clips(tmp_path / "videos", on_error="skip")
    key = source.index().key(source.index().rows("val")[1])
    broken = tmp_path / "videos" / key
    broken.write_bytes(broken.read_bytes()[:200])
    stage, out = finetune(source, model, epochs=1), tmp_path / "out"

    index = run(stage, out)

    (top1,) = json.loads((out / "metrics.json").read_text())
    val = index.rows("val").tolist()
    assert top1["n_test"] == len(val) - 1
    assert top1["details"]["skipped"] == 1
    assert np.load(out / "skipped.npy").tolist() == [1]
    ranks = np.delete(np.load(out / "ranks.npy")[:, 0], 1)
    assert top1["value"] == (ranks == 0).mean()


@pytest.mark.parametrize("moment", ["training", "prediction", "between"])
def test_resumed_equals_undisturbed(
    moment: str, target: tuple[Source, TrunkRecipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, given = finetune(*target), trunk(target[1], tmp_path / "given")
    run(stage, tmp_path / "whole", trunk=given)
    write = RowWriter.write
    predicted: list[int] = []

    def stop_in_second_epoch(self: Any, trainer: Any, *args: Any) -> None:
        if trainer.current_epoch == 1:
            raise Stop

    def stop_in_second_batch(self: RowWriter, index: torch.Tensor, ranks: torch.Tensor) -> None:
        if predicted:
            raise Stop
        predicted.extend(index.tolist())
        write(self, index, ranks)

    def stop(self: TrainingCheckpoint) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        if moment == "training":
            patch.setattr(TrainingCheckpoint, "on_train_batch_end", stop_in_second_epoch)
        elif moment == "prediction":
            patch.setattr(RowWriter, "write", stop_in_second_batch)
        else:
            patch.setattr(TrainingCheckpoint, "remove", stop)
        with pytest.raises(Stop):
            run(stage, tmp_path / "out", trunk=given)
    again: list[int] = []

    def noted(self: RowWriter, index: torch.Tensor, ranks: torch.Tensor) -> None:
        again.extend(index.tolist())
        write(self, index, ranks)

    monkeypatch.setattr(RowWriter, "write", noted)
    torch.manual_seed(99)  # what the process drew in between is of no account
    run(stage, tmp_path / "out", trunk=given)

    for name in ARTIFACT:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert {file.name for file in (tmp_path / "out").iterdir()} == ARTIFACT
    assert not set(predicted) & set(again), "what was predicted is not predicted again"


def test_what_cannot_be_finetuned_is_refused(image_folder: ImageFolder) -> None:
    root = image_folder(per_class=10)
    stage = finetune(*images(root), batch_size=32)
    with pytest.raises(ConfigError, match=r"batch_size=32 is more than the 21 training samples .*at most 21"):
        stage.check(data=stage.data.index())
    for colour in ("red", "green"):
        shutil.rmtree(root / colour)
    stage = finetune(*images(root))
    with pytest.raises(DataError, match="1 classes; training on labels needs 2"):
        stage.check(data=stage.data.index())


def test_a_batch_of_more_than_the_labelled_samples_is_refused(image_folder: ImageFolder) -> None:
    root = image_folder(per_class=4)
    for file in sorted((root / "red").iterdir()):
        for copy in range(5):
            shutil.copy(file, root / f"{file.stem}_{copy}.png")  # beside the classes: without a label
    stage = finetune(*images(root), batch_size=16)
    with pytest.raises(ConfigError, match=r"batch_size=16 is more than the 9 labelled .*at most 9"):
        stage.check(data=stage.data.index())


def several_labels(root: Path) -> tuple[Source, TrunkRecipe]:
    """Each image has the class of its folder, and every second one the class ``even``, too."""
    rows = ["path,split,label"]
    for number, file in enumerate(sorted(root.glob("*/*.png"))):
        split = ("train", "train", "val", "test")[number // 2 % 4]
        rows.append(f"{file.relative_to(root)},{split},{file.parent.name}{' even' * (number % 2 == 0)}")
    (root / "all.csv").write_text("\n".join(rows))
    view = View(resize=20, crop=16)
    return ManifestImages(root=str(root), manifest="all.csv", view=view), TinyTrunk(width=4)


def test_of_several_labels_the_map_is_that_of_the_written_network(
    image_folder: ImageFolder, tmp_path: Path
) -> None:
    stage, out = finetune(*several_labels(image_folder(per_class=24)), epochs=3), tmp_path / "out"

    index = run(stage, out)

    (score,) = json.loads((out / "metrics.json").read_text())
    rows, view = index.rows("test"), stage.data.view.build()
    head, network = load_file(out / "head.safetensors"), stage.model.build().load(out).eval()
    with torch.inference_mode():
        shown = torch.stack([view(stage.data.sample(index, row)) for row in rows.tolist()])
        logits = network(shown) @ head["weight"].T + head["bias"]
    torch.testing.assert_close(torch.from_numpy(np.load(out / "scores.npy")), logits, rtol=1e-4, atol=1e-5)
    labels = index.table["labels"].take(rows).to_pylist()
    truth = torch.tensor([[name in one for name in index.classes] for one in labels])
    assert truth.sum(1).max() == 2
    expected = mean_average_precision(logits.numpy(), truth.numpy().astype(np.int8), {})
    assert score["value"] == pytest.approx(expected.value)
    assert (score["metric"], score["protocol"], score["n_test"]) == ("map", "finetune", len(rows))


def test_the_loss_of_several_labels_is_torchs(image_folder: ImageFolder) -> None:
    index = several_labels(image_folder(per_class=8))[0].index()
    task = MultiLabel()
    targets = torch.from_numpy(task.targets(index).values)
    assert targets.shape == (len(index), 2)
    names = [{index.classes[label] for label in row if label >= 0} for row in targets.tolist()]
    assert names == [set(labels) for labels in index.table["labels"].to_pylist()]
    torch.manual_seed(0)
    logits = torch.randn(len(index), len(index.classes))
    truth = torch.tensor([[float(name in one) for name in index.classes] for one in names])
    loss = task.loss_of(Scores(logits, task.labels_of(targets)), torch.empty(0))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(1)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.2, 0.001])
def test_a_share_of_the_labels_is_the_same_of_each_class(share: float, image_folder: ImageFolder) -> None:
    stage = finetune(*images(image_folder(per_class=12)), label_share=share, batch_size=2)
    index = stage.data.index()
    labels, train = index.single_labels(), index.rows("train")
    used = stage._targets(index, {}).values
    wanted = np.maximum(np.rint(share * np.bincount(labels[train])), 1).astype(int)
    assert np.bincount(used[train][used[train] >= 0]).tolist() == wanted.tolist()
    assert ((used == labels) | (used == -1)).all(), "the label belongs to the sample"
    rest = np.setdiff1d(np.arange(len(index)), train)
    assert np.array_equal(used[rest], labels[rest])
    other = stage.model_copy(update={"seed": 1})._targets(index, {}).values
    assert np.array_equal(other, used) == (share == 1)


def test_a_share_has_a_row_of_its_own_and_says_what_it_used(
    image_folder: ImageFolder, tmp_path: Path
) -> None:
    stage = finetune(*images(image_folder(per_class=12)), label_share=0.5, epochs=1)
    index = run(stage, tmp_path / "out")
    (top1,) = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert top1["protocol"] == "finetune_50percent"
    assert top1["details"]["label_share"] == 0.5
    assert top1["details"]["n_train"] == int(stage._targets(index, {}).known[index.rows("train")].sum())
    stage = finetune(stage.data, stage.model, label_share=0.1)
    with pytest.raises(ConfigError, match=r"batch_size=4 is more than the 3 labelled .* label_share=0.1"):
        stage.check(data=index)


@pytest.mark.slow
def test_two_processes_train_as_one_and_measure_the_same_weights_alike(
    compose: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    clips(tmp_path / "videos")
    steps, outs = [], []
    for devices in (1, 2):
        cfg = compose(
            *("+experiment=hashtag_video_r2plus1d34", "model=tiny_video", "transfer=[finetune]"),
            *("data=video_folder", f"data.root={tmp_path / 'videos'}", "data.holdout=0.3"),
            *("data.view.resize=20", "data.view.crop=16", "data.view.frames=2"),
            *("data.view.fps=10", "data.view.clips_per_video=3"),
            *("transfer.finetune.epochs=2", "transfer.finetune.batch_size=4"),
            *("transfer.finetune.precision=32-true", "runtime.accelerator=cpu"),
            f"runtime.devices={devices}",
        )
        plan = Plan(Store(str(tmp_path / f"store{devices}")))
        node = {**cfg["transfer"]["finetune"], "data": cfg["data"], "model": cfg["model"]}
        steps.append(plan.add("transfer", node, "fine-tuned", data=plan.index(cfg["data"], "data")))
        plan.check()
        plan.run(Console())
        outs.append(plan.folder(steps[-1]))
    one, two = outs
    assert steps[0].key == steps[1].key
    weights = load_file(two / "trunk.safetensors")
    for name, tensor in load_file(one / "trunk.safetensors").items():
        torch.testing.assert_close(weights[name], tensor, rtol=2e-3, atol=2e-4)

    given = tmp_path / "given"  # the weights of the two, measured by one
    given.mkdir()
    for name in ("trunk.safetensors", "head.safetensors", "classes.json"):
        shutil.copy(two / name, given)
    steps[0].built().run(given, data=plan.folder(steps[1].inputs["data"]))
    for name in ("ranks.npy", "skipped.npy", "metrics.json"):
        assert (given / name).read_bytes() == (two / name).read_bytes(), name
    assert len(np.unique(np.load(two / "ranks.npy"))) > 1


def test_a_training_that_diverges_ends_with_a_message(image_folder: ImageFolder, tmp_path: Path) -> None:
    source, model = images(image_folder(per_class=10))
    with pytest.raises(ConfigError, match=r"optimization.lr=1e\+30: the training diverged in epoch 1 .*nan"):
        run(finetune(source, model, lr=1e30), tmp_path / "out")
    assert not (tmp_path / "out" / TrainingCheckpoint.FILE).exists()
