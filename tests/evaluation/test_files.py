import pytest

from koa_lightning.evaluation import files
from koa_lightning.reporting.report.explanations import _PANELS


def test_every_panel_is_among_the_names():
    assert {f"{name}.png" for name in _PANELS} <= set(files.NAMES)


@pytest.mark.parametrize("named", [None, "thresholds.json", "."])
def test_nothing_else_is_removed(named, tmp_path):
    theirs = {
        "notes.txt",
        "explanations.part.json",
        "cross_validation.json",
        "figures/reliability.png",
        "members/a.parquet",
    }
    ours = {"metrics.json", "gradcam++.png", "figures/roc.svg", "members/0.parquet", "members/12.parquet"}
    for name in (*theirs, *ours, "thresholds.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files.remove(tmp_path, str(tmp_path / named) if named else None)
    left = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert theirs <= left
    assert ("thresholds.json" in left) == (named is not None)
    assert not left & ours


def test_a_table_that_is_measured_stays(tmp_path):
    for name in ("readers.csv", "subgroups.csv"):
        (tmp_path / name).touch()
    files.remove(tmp_path, None, str(tmp_path / "readers.csv"))
    assert [file.name for file in tmp_path.iterdir()] == ["readers.csv"]
