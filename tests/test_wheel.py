"""The wheel holds all that the package needs, and runs from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with what the wheel brings."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(REPOSITORY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "hatchling" in done.stdout + done.stderr and "No matching distribution" in done.stderr:
        pytest.skip("no package index here brings hatchling, which builds the wheel")
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder / "site")
    return folder / "site"


def test_configs_templates_and_plugins_are_inside(site):
    ours = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "conf").rglob("*.yaml")}
    there = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    templates = {"koa_lightning/reporting/report/templates/" + name for name in ("report.html.j2", "report.css")}
    page = {f"koa_lightning/serving/service/page/{name}" for name in ("index.html", "page.css", "main.js", "docs.html")}
    assert {f"koa_lightning/{name}" for name in ours} | templates | page | {"koa_lightning/py.typed"} <= there
    assert any(name.startswith("hydra_plugins/koa_sweeps/") for name in there)
    assert not any(name.startswith(("tests/", "conf/", "experiments/")) for name in there)


@pytest.mark.parametrize("module", ["train", "report"])
def test_it_runs_from_another_folder(module, site, tmp_path, graded_table):
    graded_table().to_csv(tmp_path / "table.csv", index=False)
    typed = {
        "train": ["trainer=smoke", "tracking=none", "quiet=true", "explain=none", "data.image_size=64"],
        "report": ["table=table.csv", "tracking=none", "out=out"],
    }[module]
    done = subprocess.run(
        [sys.executable, "-c", f"from koa_lightning.{module} import __file__, main; print(__file__); main()", *typed],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(site), "KOA_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site))
