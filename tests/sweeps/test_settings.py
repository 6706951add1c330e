import shlex
import sys
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from koa_lightning.config.compose import compose
from koa_lightning.errors import InputError
from koa_lightning.sweeps import settings

GIVEN = {
    "method": "tpe", "space": {}, "trials": 3, "metrics": ["m"], "directions": ["max"], "seed": 1, "startup_trials": 2,
    "name": None, "storage": None, "pruner": None, "repeats": 1, "repeat": "fold", "n_jobs": 1, "max_failures": None,
    "folder": "runs/{name}", "free": ["part.free"], "listener": None, "ensemble": False, "settings": None,
    "_target_": "x",
}  # fmt: skip


def given(**more):
    return settings.read({**GIVEN, **more})[0]


def test_settings_of_one_node_win():
    one, from_config = settings.read({**GIVEN, "settings": OmegaConf.create({"trials": 7, "metrics": "other"})})
    assert (one.trials, one.metrics, one.method, from_config) == (7, ["other"], "tpe", True)
    assert settings.read(GIVEN)[1] is False
    with pytest.raises(InputError, match=r"sweep.trails: no such setting; did you mean 'trials'"):
        given(settings={"trails": 7})


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"repeats": 0}, "sweep.repeats=0: must be a whole number from 1"),
        ({"n_jobs": True}, "sweep.n_jobs=true: must be"),
        ({"max_failures": -1}, "sweep.max_failures=-1: must be a whole number from 0"),
        ({"metrics": ["m", "m"], "directions": ["max", "max"]}, "names m twice; name it once"),
        ({"name": " "}, "sweep.name= : must be a name; omit it, and it follows"),
        ({"ensemble": 1}, "sweep.ensemble=1: must be one of true, false"),
        ({"seed": "abc"}, "sweep.seed=abc: must be a whole number from 0"),
        ({"folder": 3}, "sweep.folder=3: must be the name of a file or folder"),
        ({"method": "tpee"}, "sweep.method=tpee: must be one of tpe, random, grid, qmc; did you mean 'tpe'"),
        ({"directions": ["up"]}, "sweep.directions=.up.: must be "),
        ({"repeat": None}, "sweep.repeat=null: must be seed, fold, or a key with a whole number"),
        ({"metrics": []}, "must name one metric, or several different ones"),
        ({"ensemble": True}, "sweep.ensemble=true: needs sweep.listener, which evaluates it"),
    ],
)
def test_settings_that_cannot_be(more, line):
    with pytest.raises(InputError, match=line):
        given(**more)


def test_what_a_repeat_varies():
    assert given().repeat_key == "data.fold"
    assert given(repeat="part.seed").repeat_key == "part.seed"


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("typed", "directions"),
    [
        (["sweep=tpe"], ["max"]),
        (["sweep=tpe", "sweep.metrics=[val/mae]"], ["min"]),
        (["sweep=tpe", "sweep.metrics=seconds"], ["min"]),
        (["sweep=tpe", "monitor=val/mae", "mode=min"], ["min"]),
        (["sweep=multi"], ["max", "min"]),
        (["sweep=multi", "sweep.metrics=[val/loss,seconds,val/accuracy]"], ["min", "min", "max"]),
        (["sweep=tpe", "sweep.directions=min"], ["min"]),  # as typed; whether that can be is asked later
    ],
)
def test_a_direction_follows_from_its_metric(typed, directions):
    assert given(settings=compose("train", typed).sweep).directions == directions


@pytest.mark.parametrize("repeat", ["part.sede", "part", "flag", "share", "part.sede.x"])
def test_repeats_count_on_from_a_whole_number(repeat):
    config = OmegaConf.create({"part": {"seed": 3}, "flag": True, "share": 0.5})
    settings.check_repeat(given(repeats=2, repeat="part.seed"), config)
    with pytest.raises(InputError, match=rf"^sweep.repeat={repeat}: must name a key with a whole number, such as seed"):
        settings.check_repeat(given(repeats=2, repeat=repeat), config)
    with pytest.raises(InputError, match=r"did you mean 'part.seed'\?$"):
        settings.check_repeat(given(repeats=2, repeat="part.sede"), config)


def test_what_makes_a_sweep_another_one():
    config = OmegaConf.create({"a": "${now:%S}", "part": {"free": 1, "kept": 2}, "hydra": {"x": 1}, "sweep": {"y": 1}})
    base = settings.fingerprint(given(), {"x": "interval(0,1)"}, config)
    same = [
        settings.fingerprint(given(trials=9, n_jobs=2, name="n", max_failures=1), {"x": "interval(0,1)"}, config),
        settings.fingerprint(
            given(), {"x": "interval(0,1)"}, OmegaConf.merge(config, {"part": {"free": 5}, "hydra": {"x": 2}})
        ),
    ]
    assert same == [base] * 2
    others = [
        settings.fingerprint(given(), {"x": "interval(0,2)"}, config),
        settings.fingerprint(given(), {"x": "interval(0,1)"}, OmegaConf.merge(config, {"part": {"kept": 3}})),
        *(settings.fingerprint(given(**more), {"x": "interval(0,1)"}, config)
          for more in ({"seed": 2}, {"method": "qmc"}, {"repeats": 2}, {"directions": ["min"]}, {"pruner": {"a": 1}})),
    ]  # fmt: skip
    assert len({base, *others}) == len(others) + 1


def test_the_command_that_continues(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", SimpleNamespace(name="koa_lightning.train"))
    typed = {"hydra": ["hydra.mode=MULTIRUN", "hydra/launcher=ray"], "task": ["x=tag('a=1',choice(1,2))"]}
    typed["task"].append("sweep.storage=postgresql://me:secret@host/db")
    line = settings.command(OmegaConf.create({"hydra": {"overrides": typed}}))
    expected = ["python", "-m", "koa_lightning.train", "-m", "hydra/launcher=ray", "x=tag('a=1',choice(1,2))"]
    assert shlex.split(line) == [*expected, "sweep.storage=postgresql://me@host/db"]


def test_the_folder_of_the_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert settings.folder(given(), "a/../b c") == tmp_path / "runs" / "a_.._b_c"
