"""Write ``releases/format_N``: an index and a clustering of ``images.zip``, by the code as it is.

python tests/store/write_release.py
"""

import io
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

RELEASES = Path(__file__).parent / "releases"
KEPT = ("cluster", "index")
SETTINGS = (
    *("+experiment=demo", "runtime.accelerator=cpu", "model.width=4", "data=folder", "pretrain=supervised"),
    *("pretrain.epochs=1", "pretrain.batch_size=8", "cluster.k=4", "cluster/engine=lloyd", "logger=none"),
)


def main() -> None:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from cf_lightning.config import conf_dir, register_resolvers
    from cf_lightning.console import Console
    from cf_lightning.pipeline import method
    from cf_lightning.plan import Plan
    from cf_lightning.store import Store

    RELEASES.mkdir(exist_ok=True)
    if not (RELEASES / "images.zip").exists():
        write_images(RELEASES / "images.zip")
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"), tempfile.TemporaryDirectory() as folder:
        os.chdir(RELEASES)  # no place of this machine goes into the manifests
        cfg = OmegaConf.to_container(compose("config", [*SETTINGS, "data.root=images.zip"]), resolve=True)
        plan = Plan(Store(folder), cfg["runtime"])
        method(plan, cfg)
        while plan.steps[-1].stage != "cluster":
            plan.steps.pop()
        plan.run(Console())
        number = plan.steps[-1].manifest.get("format", 1)
        for stage in KEPT:
            (made,) = (path for path in (Path(folder) / stage).iterdir() if path.is_dir())
            shutil.copytree(made, RELEASES / f"format_{number}" / stage / made.name)


def write_images(file: Path) -> None:
    """24 images of 8 px in three classes, their colours with noise."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    with zipfile.ZipFile(file, "w") as archive:
        for name, rgb in {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}.items():
            for number in range(8):
                pixels = np.clip(np.array(rgb) + rng.normal(0, 40, (8, 8, 3)), 0, 255).astype(np.uint8)
                encoded = io.BytesIO()
                Image.fromarray(pixels).save(encoded, "PNG")
                archive.writestr(zipfile.ZipInfo(f"{name}/{number}.png"), encoded.getvalue())


if __name__ == "__main__":
    sys.exit(main())
