"""A compiled network learns what it learns without, and one that cannot be compiled is used as it is."""

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cf_lightning.config import build
from cf_lightning.models import compiling
from cf_lightning.models.compiling import compile_network
from cf_lightning.models.tiny import TinyTrunk

X = torch.randint(256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Counted:
    """A compiler that takes the graph as it is, and counts."""

    def __init__(self, fails: bool = False) -> None:
        self.graphs, self.calls, self.fails = 0, 0, fails

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        self.graphs += 1
        if self.fails:
            raise RuntimeError("no such instruction\nand its traceback")

        def run(*args: Any) -> Any:
            self.calls += 1
            return graph.forward(*args)

        return run


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """In place of inductor, which takes half a minute."""
    counted = Counted()
    torch._dynamo.reset()
    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *a, **k: original(*a, **{**k, "backend": counted}))
    return counted


def step(network: nn.Module) -> Tensor:
    loss: Tensor = network(X.float() / 255).square().mean()
    loss.backward()
    return loss.detach()


def test_gradients_statistics_and_names_are_those_without(compiler: Counted) -> None:
    torch.manual_seed(0)
    plain = TinyTrunk(width=2).build().network
    compiled = copy.deepcopy(plain)
    compile_network(compiled)
    assert torch.equal(step(plain), step(compiled))
    assert (compiler.graphs, compiler.calls) == (1, 1)
    for (name, one), (other_name, other) in zip(
        plain.state_dict().items(), compiled.state_dict().items(), strict=True
    ):
        assert name == other_name
        assert torch.equal(one, other)
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, other.grad)


def test_validation_is_not_compiled_for_its_last_batch_has_another_shape(compiler: Counted) -> None:
    network = TinyTrunk(width=2).build().network
    compile_network(network)
    step(network)
    network.eval()
    for size in (4, 3):
        network(X[:size].float())
    network.train()
    step(network)
    assert (compiler.graphs, compiler.calls) == (1, 2)


def test_what_fails_to_compile_is_used_as_it_is_with_one_warning(
    compiler: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    compiler.fails = True
    torch.manual_seed(0)
    plain = TinyTrunk(width=2).build().network
    network = copy.deepcopy(plain)
    compile_network(network)
    with caplog.at_level(logging.WARNING, compiling.__name__):
        found = [step(network) for _ in range(3)]
    assert torch.equal(torch.stack(found), torch.stack([step(plain) for _ in range(3)]))
    assert compiler.graphs == 1
    (record,) = caplog.records
    assert "torch.compile failed and is left out" in record.getMessage()
    assert "no such instruction" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_an_error_of_the_network_itself_is_no_failure_to_compile(compiler: Counted) -> None:
    network = TinyTrunk(width=2).build().network
    compile_network(network)
    with pytest.raises(Exception, match="channels"):
        network(torch.zeros(1, 5, 16, 16))


@pytest.mark.parametrize("name", ["pretrain", "extract"])
def test_a_stage_that_compiles_gives_what_it_gives_without(
    name: str,
    compiler: Counted,
    compose: Callable[..., dict[str, Any]],
    image_folder: Callable[..., Path],
    tmp_path: Path,
) -> None:
    found = []
    root = image_folder(per_class=7)
    for compiled in (False, True):
        settings = ["data=folder", f"data.root={root}", "pretrain=supervised", "model.width=2"]
        settings += [f"{name}.batch_size=8", f"{name}.precision=32-true", f"{name}.compile={compiled}"]
        cfg = compose("+experiment=demo", "pretrain.epochs=2", "runtime.accelerator=cpu", *settings)
        cfg["extract"]["model"] = cfg["model"]
        stage, out = build(cfg[name], name), tmp_path / str(compiled)
        out.mkdir()
        stage.data.index().write(out)
        torch.manual_seed(0)
        stage.run(out, data=out)
        if name == "pretrain":
            weights = load_file(out / "trunk.safetensors").values()
            found.append(torch.cat([one.flatten().float() for one in weights]))
        else:
            found.append(torch.from_numpy(np.load(out / "features.npy").astype(np.float32)))
    assert compiler.graphs == 1
    assert compiler.calls == (4 if name == "pretrain" else 3)
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_inductor_itself_gives_these_features() -> None:
    trunk = TinyTrunk(width=2).build().eval()
    with torch.inference_mode():
        before = trunk(X)
        compile_network(trunk.network)
        torch.testing.assert_close(trunk(X), before)
