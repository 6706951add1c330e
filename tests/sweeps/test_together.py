"""The trials of a sweep as one grader, after real trainings of one epoch."""

import json
import shlex
from pathlib import Path

import pandas as pd
import pytest

from koa_lightning.checkpoint import find
from koa_lightning.config import outcome
from koa_lightning.config.compose import compose
from koa_lightning.metrics import predictions
from koa_lightning.sweeps import study as studies
from koa_lightning.sweeps import together

pytestmark = pytest.mark.usefixtures("blank_figures")

SEEDS = ["-m", "sweep=grid", "hydra/launcher=basic", "seed=1,2", "out=here", "sweep.ensemble=true"]
SHORT = ["trainer.max_epochs=1", "explain=none", "tracking=none"]


@pytest.fixture
def sweep(monkeypatch, launch, place, tiny):
    """Train with two seeds and more overrides; returns a result of `launch`."""

    def run(*more):
        monkeypatch.setenv(studies.STORAGE_VARIABLE, "")
        return launch("train", *SEEDS, *tiny.overrides, "trainer.max_epochs=1", "explain=none", "tracking=none", *more)

    return run


def named_by(line):
    typed = next(item for item in shlex.split(line) if item.startswith("ckpt="))
    return find.find(typed.removeprefix("ckpt="), None)


@pytest.mark.slow
def test_the_end_of_a_sweep_measures_its_trials_together(sweep, place):
    ended = sweep()
    assert ended.code == outcome.DONE, ended.err
    folder = place / "here" / together.FOLDER
    facts = json.loads((folder / "ensemble.json").read_text())
    files = [place / "here" / str(number) / find.BEST for number in range(2)]
    assert [entry["checkpoint"] for entry in facts["members"]] == list(map(str, files))
    each = [pd.read_parquet(folder / "members" / f"{number}.parquet").set_index("path") for number in range(2)]
    both = pd.read_parquet(folder / "predictions.parquet").set_index("path")
    assert set(pd.read_parquet(place / "here/0/manifest.parquet").query("split == 'val'")["path"]) == set(both.index)
    mean = sum(one.loc[both.index, predictions.PROBABILITIES] for one in each) / 2
    pd.testing.assert_frame_equal(mean, both[predictions.PROBABILITIES], atol=1e-6, check_dtype=False)
    said, line = ended.out[-2:]
    assert said.startswith("ensemble of 2 on the validation split, mirrored images averaged: accuracy ")
    assert f"accuracy {facts['ensemble']['accuracy']:.3f}" in said and said.endswith(f"in {folder}")
    assert named_by(line) == files
    assert "*" in line

    other = place / "here/2" / find.BEST  # as a pruned trial leaves one: it is no member
    other.parent.mkdir(parents=True)
    other.write_bytes(b"")
    before = (folder / "metrics.json").stat().st_mtime_ns
    again = sweep()
    assert again.out[-2] == said
    assert named_by(again.out[-1]) == files
    assert (folder / "metrics.json").stat().st_mtime_ns == before  # nothing was measured twice


@pytest.mark.slow
def test_what_it_cannot_do_is_said(sweep, capsys):
    assert sweep("sweep.ensemble=perhaps").err == ["error: sweep.ensemble=perhaps: must be one of true, false"]
    found = sweep("sweep.listener=null")
    assert found.code == outcome.BAD_INPUT
    assert found.err == ["error: sweep.ensemble=true: needs sweep.listener, which evaluates it"]


def test_repeats_are_members_too_and_the_incomplete_are_not(made_study, tmp_path):
    study = made_study(6, repeats=2)
    names = [str(file.relative_to(tmp_path).parts[0]) for file in together.checkpoints(study, tmp_path)]
    assert names == ["0-0", "0-1", "1-0", "1-1", "4-0", "4-1"]  # 2 was pruned, 3 failed, 5 was interrupted


@pytest.mark.parametrize("others", [False, True])
def test_the_files_are_named_in_a_folder_of_any_name(others, tmp_path):
    folder = tmp_path / "out [1], it's"
    files = [folder / str(number) / find.BEST for number in range(3)]
    for file in files:
        file.parent.mkdir(parents=True)
        file.touch()
    own = files[:2] if others else files
    assert find.find(together._typed(own, folder), None) == own


def test_one_trial_is_no_ensemble(made_study, tmp_path, capsys):
    together.measure(made_study(1), compose("train", []), tmp_path)
    assert capsys.readouterr().out == "ensemble: needs at least two complete trials; nothing was evaluated\n"
    assert not (Path(tmp_path) / together.FOLDER).exists()
