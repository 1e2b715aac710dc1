"""Keys and passwords are refused before anything is written, and what is none passes."""

import os
from pathlib import Path
from unittest.mock import patch

import pytest

from cf_lightning.credentials import refuse_in, refuse_on_command_line
from cf_lightning.errors import ConfigError
from conftest import Cli

SECRET = "0123456789abcdef0123456789abcdef01234567"


def test_a_key_on_the_command_line_is_written_nowhere(cli: Cli, tmp_path: Path) -> None:
    done = cli("+experiment=demo", "logger=wandb", f"+runtime.logger.api_key={SECRET}")
    assert done.returncode == 1
    assert "runtime.logger.api_key=***: a key or password" in done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "word",
    [
        *("cluster.k=8", "model.cls_token=true", "data.root=/home/token/images", "target.secret.root=a"),
        *("data.columns.label=password", "runtime.logger.api_key=null", "data.root=s3://bucket/a?list=b"),
        *("pretrain.task.tokens=3", "data.manifest=key=value.csv", "model.name=vit_token_small"),
    ],
)
def test_what_is_no_key_passes(word: str) -> None:
    refuse_on_command_line([word])


@patch.dict(os.environ, {"WANDB_API_KEY": SECRET, "SHORT_KEY": "images"})
def test_the_value_of_a_key_in_the_environment_is_known() -> None:
    refuse_in({"data": {"root": "images"}})
    with pytest.raises(ConfigError, match=r"^data\.roots\[1\] holds the value of \$WANDB_API_KEY") as caught:
        refuse_in({"data": {"roots": ["a", f"b/{SECRET}"]}})
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfigError, match=r"data\.root holds the value of \$WANDB_API_KEY"):
        refuse_on_command_line([f"data.root={SECRET}"])
