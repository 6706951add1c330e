import shlex
from pathlib import Path

import pytest

from koa_lightning.config.compose import compose
from koa_lightning.errors import InputError
from koa_lightning.sweeps import best

OVERRIDES = {
    "groups and values": ["model=efflite0", "loss=focal", "optimizer.lr=3e-4"],
    "an experiment, overridden": ["experiment=sweep", "model=effb0", "data.image_size=64", "optimizer.lr=1e-5"],
    "an experiment that overrides groups": ["experiment=demo", "loss=ce", "data.batch_size=8"],
    "added, emptied and quoted": ["+data.note='a, b: {c}'", "callbacks.ema=null", "name='best one'", "trainer=cpu"],
    "text that looks like a number": ["model.weights='1e-4'", "name='007'"],
    "typed twice": ["optimizer.lr=1e-3", "optimizer=sgd", "optimizer.lr=2e-3", "optimizer=adamw"],
    "paths": ["data=chen2018", "data.root='/x y/ä, b'"],
    "nothing": [],
}


@pytest.mark.sample(3)
@pytest.mark.parametrize("overrides", OVERRIDES.values(), ids=OVERRIDES)
def test_the_file_composes_to_what_the_command_does(overrides, tmp_path, monkeypatch, launch):
    monkeypatch.chdir(tmp_path)
    file = Path("experiments/my 2nd/best.yaml")
    assert best.write(file, overrides, ["trial 3"]) == []
    lines = file.read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert "# trial 3" in lines
    assert any("research use only" in line for line in lines)
    arguments = shlex.split(lines[1].removeprefix("# python -m koa_lightning.train "))
    assert arguments == best.use(file)

    main = "train"

    from_file = launch(main, *arguments, "--cfg", "job").out
    typed = launch(main, *overrides, "--cfg", "job").out
    assert (without_out(from_file), len(from_file) > 50) == (without_out(typed), True)


def test_more_can_be_typed_after_the_file(tmp_path, monkeypatch, launch):
    monkeypatch.chdir(tmp_path)
    best.write(Path("experiments/s/best.yaml"), ["loss=focal", "optimizer.lr=3e-4"], [])

    main = "train"

    out = launch(main, *best.use(Path("experiments/s/best.yaml")), "optimizer.lr=5e-4", "--cfg", "job").out
    assert "  lr: 0.0005" in out
    assert any("losses.focal.Focal" in line for line in out)


def test_what_a_file_cannot_say_is_named(tmp_path):
    assert best.write(tmp_path / "s" / "best.yaml", ["~callbacks.ema", "loss=ce"], []) == ["callbacks.ema"]


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("file", "arguments"),
    [
        ("experiments/s/best.yaml", ["--config-dir", ".", "+experiments=s/best"]),
        ("studies/a/b/c.yaml", ["--config-dir", ".", "+studies=a/b/c"]),
        ("best.yaml", ["--config-dir", "{above}", "+here=best"]),
        ("data/best.yaml", ["--config-dir", "{above}", "+here=data/best"]),  # data is a group of the house
        ("{above}/there/1/best.yaml", ["--config-dir", "{above}", "+there=1/best"]),
    ],
)
def test_a_file_is_taken_from_wherever_it_lies(file, arguments, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    file = Path(file.format(above=tmp_path))
    expected = [each.format(above=tmp_path) for each in arguments]
    assert best.use(file) == expected
    best.write(file, ["loss=focal"], [])
    _, folder, override = expected
    assert (
        compose("train", [f"hydra.searchpath=[file://{Path(folder).absolute()}]", override]).loss
        == compose("train", ["loss=focal"]).loss
    )


@pytest.mark.parametrize("file", ["/2/1/best.yaml", "/best.yaml"])
def test_a_place_that_cannot_be_a_group_is_refused(file):
    with pytest.raises(InputError, match="plain name"):
        best.use(Path(file))


def test_only_yaml_is_written(tmp_path):
    with pytest.raises(InputError, match=r"must end in \.yaml"):
        best.write(tmp_path / "best.txt", [], [])


def test_what_placed_a_trial_in_its_sweep_is_omitted():
    typed = [
        "model=effb3", "out=x", "hydra.sweeper.n=3", "hydra/launcher=joblib", "sweep=tpe", "sweep.trials=3",
        "tracking.parent=1", "tracking.experiment=mine", "+sweep.x=1", "outer=1",
    ]  # fmt: skip
    assert best.of_trial(typed) == ["model=effb3", "tracking.experiment=mine", "outer=1"]


def test_the_command_is_quoted_for_a_shell():
    assert best.command(["name='a b'", "x=[1,2]"]).endswith("train 'name='\"'\"'a b'\"'\"'' 'x=[1,2]'")
    assert shlex.split(best.command(["name='a b'"]))[-1] == "name='a b'"


def without_out(lines):
    return [line for line in lines if not line.startswith("out: ")]
