"""The wheel, made by way of the sdist, unpacked far from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_holds_everything_that_a_run_needs(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    wheel = next(tmp_path.glob("*.whl"))
    assert wheel.stat().st_size < 6 * 2**20
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        names = set(archive.namelist())
    for file in (ROOT / "conf").rglob("*.yaml"):
        assert f"cf_lightning/{file.relative_to(ROOT)}" in names
    assert "cf_lightning/data/demo/LICENSE" in names
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "cf_lightning", "+experiment=hashtag_r50", "plan=true"],
        capture_output=True,
        text=True,
        cwd=tmp_path / "empty",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "clusterfit" in done.stdout
    assert "embedded data" in done.stdout


def test_importing_the_package_is_light() -> None:
    code = "import sys, cf_lightning; sys.exit(bool({'torch', 'lightning', 'faiss'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_are_what_they_say() -> None:
    import cf_lightning

    for name in cf_lightning.__all__:
        assert getattr(cf_lightning, name).__name__ == name
    with pytest.raises(AttributeError, match="Nothing"):
        _ = cf_lightning.Nothing
