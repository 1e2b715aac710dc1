"""What of a trunk that processes divide is put together at once; how it trains is in test_student_ranks."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from cf_lightning.config import build
from cf_lightning.errors import ConfigError
from cf_lightning.models.base import TrunkRecipe
from cf_lightning.models.timm import TimmTrunk
from cf_lightning.models.torchvision import TorchvisionTrunk
from cf_lightning.models.torchvision_video import TorchvisionVideoTrunk
from cf_lightning.sharding import units
from cf_lightning.stages.train import Train
from cf_lightning.stages.training_checks import check_combinations


@pytest.mark.parametrize(
    ("recipe", "blocks", "kind"),
    [
        (TorchvisionTrunk(name="vit_b_16"), 12, "EncoderBlock"),
        (TorchvisionTrunk(name="swin_b"), 24, "SwinTransformerBlock"),
        (TorchvisionVideoTrunk(name="mvit_v2_s"), 16, "MultiscaleBlock"),
        (TimmTrunk(name="vit_large_patch14_dinov2"), 24, "Block"),
        (TimmTrunk(name="vit_giant_patch14_224"), 40, "Block"),
        (TimmTrunk(name="davit_base"), 10, "SpatialBlock"),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_the_units_are_the_blocks_of_a_network(recipe: TrunkRecipe, blocks: int, kind: str) -> None:
    trunk = recipe.sized()
    found = units(trunk)
    assert Counter(type(unit).__name__ for unit in found)[kind] == blocks
    parts = [part for unit in found for part in unit.parameters()]
    assert len({id(part) for part in parts}) == len(parts), "no weight is in two units"
    total = sum(weight.numel() for weight in trunk.parameters())
    assert sum(part.numel() for part in parts) > 0.9 * total
    assert max(sum(part.numel() for part in unit.parameters()) for unit in found) <= total / 4


def test_a_network_without_blocks_is_put_together_as_a_whole() -> None:
    assert units(nn.Linear(2, 2)) == []


def test_own_clusters_of_a_divided_trunk_are_refused(compose: Callable[..., dict[str, Any]]) -> None:
    cfg = compose("+experiment=demo", "clusterfit/recluster=kmeans", "runtime.shard=true")
    node = {n: v for n, v in cfg["clusterfit"].items() if n not in ("relabel", "warm_start")}
    stage = build(node, "clusterfit")
    assert isinstance(stage, Train)
    with pytest.raises(ConfigError, match=r"runtime\.shard=true with recluster.*set runtime\.shard=false"):
        check_combinations(stage)
