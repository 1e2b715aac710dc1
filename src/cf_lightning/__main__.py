"""``python -m cf_lightning +experiment=NAME``: the front door; imports neither torch nor lightning."""

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from cf_lightning.config import conf_dir, register_resolvers
from cf_lightning.credentials import refuse_on_command_line
from cf_lightning.errors import ConfigError
from cf_lightning.multirun import conclude, run_job
from cf_lightning.pipeline import run
from cf_lightning.preemption import exit_when_asked, requeue


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def main(cfg: DictConfig) -> float:
    """Complete the configuration with what only Hydra knows, and run it."""
    info = HydraConfig.get()
    cfg.runtime.run_dir = info.runtime.output_dir
    cfg.runtime.experiment = str(info.runtime.choices.get("experiment") or "custom")
    cfg.runtime.overrides = list(info.overrides.task)
    if info.mode == RunMode.MULTIRUN:
        cfg.runtime.sweep_dir = str(Path(info.runtime.cwd, info.sweep.dir))
        if not cfg.plan:
            return run_job(cfg, int(info.job.num))
    return run(cfg)


def list_experiments() -> None:
    """What a bare call says: the experiments, each with the first line of its header."""
    print("python -m cf_lightning +experiment=NAME [key=value ...]\n")
    for file in sorted((conf_dir() / "experiment").glob("*.yaml")):
        question = next(line for line in file.read_text().splitlines() if line.startswith("# Question: "))
        print(f"  {file.stem:16} {question.removeprefix('# Question: ')}")
    print("\nplan=true shows what would run; --help lists the choices; own YAML: --config-dir FOLDER")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        list_experiments()
    else:
        try:
            refuse_on_command_line(sys.argv[1:])  # before Hydra writes down what was asked for
        except ConfigError as error:
            sys.exit(str(error))
        register_resolvers()
        exit_when_asked()
        try:
            main()
        except KeyboardInterrupt:
            sys.exit(130)
        except SystemExit as end:
            requeue(end.code)
            raise
        finally:
            failed = conclude()
        sys.exit(int(failed))  # W&B asks for a number
