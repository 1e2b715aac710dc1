"""The configuration of a command line, in this process."""

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from cf_lightning.config import conf_dir, register_resolvers


def composed(*overrides: str) -> DictConfig:
    """Not resolved yet."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", list(overrides))
