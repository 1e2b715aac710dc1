"""Every key of conf/ with wrong values: refused by its name, before data is listed or a stage starts."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cf_lightning.config import conf_dir
from cf_lightning.data.source import Source
from cf_lightning.errors import ConfigError
from cf_lightning.pipeline import run
from cf_lightning.settings import check_settings, resolved

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "reliability"
LITTLE = settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("configs")


@LITTLE
@given(st.data())
def test_a_wrong_value_of_any_key_is_refused_by_its_name(
    configs: ModuleType, tmp_path: Path, data: st.DataObject
) -> None:
    place = data.draw(st.sampled_from(list(configs.places())))
    what = data.draw(st.sampled_from([*configs.WRONG, configs.UNKNOWN]))
    missing = object()
    assert OmegaConf.select(configs.configuration(place.overrides), place.key, default=missing) is not missing
    assert not configs.try_value(place, what, tmp_path, wholly=False)


def test_every_key_of_every_file_is_tried(configs: ModuleType) -> None:
    tried = {(place.file, place.key.rpartition(".")[2]) for place in configs.places()}
    for path in conf_dir().rglob("*.yaml"):
        file = str(path.relative_to(conf_dir()).with_suffix(""))
        written: Any = OmegaConf.to_container(OmegaConf.load(path))
        for key in set(written) - {"defaults", "hydra"}:
            assert file.startswith("hydra/") or (file, key) in tried


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+foo=3", r"^foo=3: no such setting; there are cluster, "),
        ("rounds=-1", r"^rounds=-1: it is a whole number"),
        ("transfer.seed=x", r"^transfer\.seed=x: it is a whole number"),
        ("plan=perhaps", r"^plan=perhaps: it is true or false"),
        ("clusterfit.warm_start=1", r"^clusterfit\.warm_start=1: it is true or false"),
        (
            "+transfer.linear.data=1 +transfer.linear.model=1",
            r"^transfer\.linear\.data=1: it is the target's",
        ),
        ("cluster.space=3", r"^cluster\.space=3: it is a group of settings"),
        (
            "cluster.engine._target_=cf_lightning.no.Class",
            r"^cluster\.engine\._target_=cf_lightning\.no\.Class: there is no such class",
        ),
        ("pretrain.optimization.lr=nan", r"^pretrain\.optimization\.lr=nan: .*finite"),
        ("runtime.devices=0", r"^runtime\.devices=0: .*greater than or equal to 1"),
        ("runtime.store=''", r"^runtime\.store=: .*at least 1 character"),
        ("seed=9007199254740993", r"^seed=9007199254740993: "),
        (
            "clusterfit.seed=9007199254740993",
            r"^clusterfit\.seed=9007199254740993: .*at most 9007199254740992",
        ),
        (
            "curate=balanced",
            r"^curate\.size=\?\?\?: Missing mandatory value.*set it, as in curate\.size=VALUE",
        ),
        ("data.view=3", r"^target\.species\.view\.resize=\$\{data\.view\.resize\}: .*set it, as in "),
        (
            "contestant=[per_label] contestant.per_label.stage.k=many",
            r"^contestant\.per_label\.stage\.k=many: ",
        ),
        ("teacher=file", r"^teacher\.path=\?\?\?: Missing mandatory value"),
    ],
)
def test_the_message_begins_with_the_key(
    override: str, message: str, configs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(_: Source) -> None:
        raise AssertionError("data is listed before the settings are checked")

    monkeypatch.setattr(Source, "index", listed)
    with pytest.raises(ConfigError, match=message):
        run(configs.configuration(("+experiment=demo", *override.split(" "))))


@pytest.mark.parametrize("experiment", ["demo", "evaluate", "jigsaw_rotnet_r50", "hashtag_video_r2plus1d34"])
def test_what_is_right_is_taken(experiment: str, compose: Callable[..., dict[str, Any]]) -> None:
    everything = "contestant=[random,teacher,student,teacher_2x,per_label,prototypes,distillation]"
    check_settings(compose(f"+experiment={experiment}", everything, "cluster.k=[4,8]"))


def test_several_values_that_are_missing(configs: ModuleType) -> None:
    cfg = OmegaConf.create({"a": {"b": "${c.d}"}, "c": 3})
    with pytest.raises(ConfigError, match=r"^a\.b=\$\{c\.d\}: "):
        resolved(cfg)
