"""Operations of a plan by hand, and what is said of them."""

import numpy as np
import pytest

from cf_lightning.data.containers import File, sample_table
from cf_lightning.data.folder import FolderImages, FolderVideos
from cf_lightning.data.index import Index
from cf_lightning.data.progressive import Progressive
from cf_lightning.data.views import Augmentation, View
from cf_lightning.errors import ConfigError
from cf_lightning.estimate import A100, hours, told
from cf_lightning.models.base import TrunkRecipe
from cf_lightning.models.r2plus1d import R2Plus1D
from cf_lightning.models.timm import TimmTrunk
from cf_lightning.models.tiny import TinyTrunk
from cf_lightning.models.tiny_video import TinyVideoTrunk
from cf_lightning.models.torchvision import TorchvisionTrunk
from cf_lightning.optimization import SGD
from cf_lightning.stages.extract import Extract
from cf_lightning.stages.train import Train
from cf_lightning.stages.training_checks import check_progressive
from cf_lightning.tasks.supervised import Supervised

SOURCE = FolderImages(root="somewhere", view=View(resize=8, crop=8))
# four convolutions of 3 x 3: (channels in, channels out, pixels out)
TINY = 2 * 9 * sum(a * b * p for a, b, p in [(3, 2, 64), (2, 4, 16), (4, 8, 4), (8, 16, 1)])


def index(train: int, val: int) -> Index:
    files = [File(f"{number}.jpg", None) for number in range(train + val)]
    none: list[list[str]] = [[] for _ in files]
    return Index(sample_table(files, ["train"] * train + ["val"] * val, none, none), "made up")


def test_a_small_network_by_hand() -> None:
    assert TinyTrunk(width=2).operations((3, 8, 8)) == TINY
    extract = Extract(data=SOURCE, model=TinyTrunk(width=2))
    assert extract.operations(data=index(5, 2)) == 7 * TINY, "every row, whatever its split"
    train = Train(
        data=SOURCE,
        model=TinyTrunk(width=2),
        task=Supervised(),
        optimization=SGD(),
        augmentation=Augmentation(),
        epochs=4,
        batch_size=2,
    )
    assert train.operations(data=index(5, 2)) == 3 * 4 * 5 * TINY, (
        "forward and backward, training samples alone"
    )
    growing = train.model_copy(update={"progressive": Progressive(start=0.5, until=0.5, step=4)})
    assert growing.sides(SOURCE.view) == [4, 8, 8, 8]
    small = TinyTrunk(width=2).operations((3, 4, 4))
    assert (
        growing.operations(data=index(5, 2))
        == 3 * 5 * (small + 3 * TINY)
        < train.operations(data=index(5, 2))
    )


def test_clips_do_not_grow() -> None:
    train = Train(
        data=FolderVideos(root="somewhere"),
        model=TinyVideoTrunk(),
        task=Supervised(),
        optimization=SGD(),
        augmentation=Augmentation(),
        progressive=Progressive(start=0.5, until=0.5),
        epochs=4,
        batch_size=2,
    )
    with pytest.raises(ConfigError, match=r"progressive=.*root=somewhere gives clips; leave it out"):
        check_progressive(train, index(5, 2), train.data.view)


@pytest.mark.parametrize(
    ("recipe", "shape", "published"),
    [
        (TorchvisionTrunk(name="resnet50"), (3, 224, 224), 2 * 4.09e9),
        (TimmTrunk(name="vit_small_patch16_224"), (3, 224, 224), 2 * 4.25e9),
        (R2Plus1D(depth=18), (3, 16, 112, 112), 2 * 40.5e9),
    ],
)
def test_published_counts(recipe: TrunkRecipe, shape: tuple[int, ...], published: float) -> None:
    assert recipe.operations(shape) == pytest.approx(published, rel=0.1)


def test_more_machines_take_less_time() -> None:
    one, eight, many = (hours(A100 * 3600)[f"{number} A100"] for number in (1, 8, 64))
    np.testing.assert_allclose([one, eight, many], [1, 1 / 8, 1 / 64])
    assert told(64 * A100 * 3600).startswith("14 EFLOP in what is to run: at best some ")
    assert "64 h on 1 A100" not in told(64 * A100 * 3600), "days from 48 hours on"
    assert "8 h on 8 A100, 1 h on 64 A100" in told(64 * A100 * 3600)
