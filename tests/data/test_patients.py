"""Patients that are none, where a table brings them: said wherever they would be counted."""

import numpy as np
import pandas as pd
import pytest
from hydra.utils import instantiate
from PIL import Image

from koa_lightning.config.compose import compose
from koa_lightning.data.audit.gather import gather
from koa_lightning.data.build import data_module
from koa_lightning.data.patients import implausible
from koa_lightning.evaluation.evaluate import evaluate


@pytest.fixture
def graded():
    rng = np.random.default_rng(0)
    grade = np.repeat(np.arange(5), 12)
    rows = pd.DataFrame({"path": [f"knee{n:02d}.png" for n in range(60)], "grade": grade, "side": ""})
    rows[[f"p{k}" for k in range(5)]] = rng.dirichlet(np.ones(5), 60)
    return rows


@pytest.mark.slow
@pytest.mark.usefixtures("blank_figures")
def test_eval_of_a_table_says_that_its_patients_are_grades(graded, tmp_path, capsys):
    def computed(patient):
        graded.assign(patient=patient).to_csv(tmp_path / "t.csv", index=False)
        options = [f"table='{tmp_path}/t.csv'", f"out='{tmp_path}/out'", "n_resamples=100"]
        evaluate(compose("eval", options))
        return capsys.readouterr().err

    assert "60 knees, 5 patients by the column patient, e.g. 'G0' from 'knee00.png'" in computed(
        "G" + graded["grade"].astype(str)
    )
    assert "by the column patient" not in computed([f"P{n // 2}" for n in range(60)])


def test_training_and_audit_of_a_table_say_it_too(graded, tmp_path, capsys):
    for path in graded["path"]:
        Image.fromarray(np.random.default_rng(len(path)).integers(0, 256, (40, 40), np.uint8)).save(tmp_path / path)
    graded.assign(patient="KL" + graded["grade"].astype(str)).to_csv(tmp_path / "t.csv", index=False)
    config = compose("train", ["data=table", f"data.table='{tmp_path}/t.csv'"]).data
    said = "WARNING: data=table: 60 knees, 5 patients by the source, e.g. 'KL0' from 'knee00.png'"
    data_module(config, quiet=True).whole()
    assert said in capsys.readouterr().err
    gather(instantiate(config.source), config, quiet=True)
    assert said in capsys.readouterr().err


def test_nothing_is_said_of_knees_without_patients(graded):
    assert implausible(graded.assign(patient=""), "x") == ""
    assert implausible(graded.assign(patient="", grade=pd.NA), "x") == ""
    assert implausible(graded.assign(patient="1", grade=pd.NA), "x").startswith("60 knees, 1 patients by x, e.g. '1'")
