from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from cf_lightning.config import build
from cf_lightning.optimization import SGD, AdamW, Optimization


@pytest.mark.parametrize("recipe", [SGD, AdamW])
@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("step", [1.0, 0.1, 0.01]), ("cosine", [1.0, 0.5, 0.0])],
)
def test_the_schedule_in_three_points(
    schedule: str, expected: list[float], recipe: type[Optimization]
) -> None:
    optimization = recipe(lr=0.5, schedule=schedule, milestones=[0.4, 0.8])  # type: ignore[arg-type, call-arg]
    parts = optimization.build(torch.nn.Linear(2, 2), batch_size=512, num_steps=10)
    rates = []
    for _ in range(11):
        rates.append(parts["optimizer"].param_groups[0]["lr"])
        parts["optimizer"].step()
        parts["lr_scheduler"]["scheduler"].step()
    assert [rates[0], rates[5], rates[10]] == pytest.approx(expected, abs=1e-9)


def test_warm_up_rises_from_a_tenth_and_norms_do_not_decay() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    parts = SGD(lr=0.1, warmup=0.5).build(module, batch_size=256, num_steps=10)
    assert parts["optimizer"].param_groups[0]["lr"] == pytest.approx(0.01)
    decayed, free = parts["optimizer"].param_groups
    assert [p.ndim for p in decayed["params"]] == [4, 1]
    assert [tuple(p.shape) for p in free["params"]] == [(4,), (4,)]
    assert (decayed["weight_decay"], free["weight_decay"]) == (1e-4, 0.0)


def test_adamw_lets_the_weights_of_a_transformer_and_its_head_decay_and_nothing_else() -> None:
    trunk = VisionTransformer(img_size=16, patch_size=8, embed_dim=8, depth=1, num_heads=2, num_classes=0)
    module = torch.nn.ModuleDict({"trunk": trunk, "head": torch.nn.Linear(8, 3)})
    trunk.patch_embed.requires_grad_(False)
    optimizer = AdamW(betas=[0.8, 0.95]).build(module, batch_size=256, num_steps=10)["optimizer"]
    assert isinstance(optimizer, torch.optim.AdamW)
    names = {parameter: name for name, parameter in module.named_parameters()}
    decay = {names[p]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name for name in decay if decay[name]} == {
        *(f"trunk.blocks.0.{layer}.weight" for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")),
        "head.weight",
    }
    assert set(decay.values()) == {0.0, 0.05}
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert set(decay) == trained > {"trunk.pos_embed", "trunk.cls_token", "trunk.norm.weight", "head.bias"}
    assert {(group["lr"], group["betas"]) for group in optimizer.param_groups} == {(2.5e-4, (0.8, 0.95))}


def test_training_recipes_differ_in_the_optimiser_alone(
    compose: Callable[..., dict[str, Any]],
) -> None:
    found = {}
    for name, recipe in {"sgd": SGD, "adamw": AdamW}.items():
        cfg = compose("+experiment=demo", f"training@clusterfit={name}")
        assert type(build(cfg["pretrain"]["optimization"], "optimization")) is SGD
        assert type(build(cfg["clusterfit"].pop("optimization"), "optimization")) is recipe
        found[name] = cfg["clusterfit"]
    assert found["sgd"] == found["adamw"]
