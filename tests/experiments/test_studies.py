"""Every study can still be repeated: its command is a module that is there, and what it trains composes."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from experiments import studies
from experiments.chen2018_best import run as chen2018_best
from experiments.distillation import run as distillation
from experiments.leakage import run as leakage
from experiments.recipe import run as recipe
from experiments.recipe.run import ensembles, listed
from koa_lightning.checkpoint import find as of_ensemble
from koa_lightning.config.compose import choices_of, compose, validate

PLACE = Path(studies.__file__).parent
STUDIES = sorted(path.name for path in PLACE.iterdir() if path.is_dir() and not path.name.startswith("_"))


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_has_a_page_a_command_and_what_it_found(name):
    page = (PLACE / name / "README.md").read_text()
    commands = re.findall(r"python -m (experiments\.[\w.]+)", page)
    assert commands, "the page names the command that repeats it"
    for command in commands:
        assert (PLACE.parent / f"{command.replace('.', '/')}.py").is_file(), command
    assert len(page.splitlines()) <= 50, "under a screen"
    assert "not a medical device" in page
    assert f"[{name}]({name}/README.md)" in (PLACE / "README.md").read_text()
    assert not [file for file in (PLACE / name).rglob("*") if file.suffix in (".jpg", ".ckpt", ".dcm", ".npy")]


@pytest.mark.sample(8)
@pytest.mark.parametrize("name", listed())
def test_every_run_of_the_recipe_composes(name):
    run = listed()[name]
    cfg = compose("train", run["overrides"])
    validate(cfg)
    assert cfg.name == name
    assert cfg.data.name == "chen2018"
    assert run["asks"]


def test_runs_that_are_measured_together_are_short_runs():
    for name, members in ensembles().items():
        assert name.startswith("rank_") and name not in listed()
        assert set(members) <= {run for run in listed() if run.startswith("rank")} and len(members) > 1


@pytest.mark.parametrize("recipe", distillation.RECIPES)
def test_the_teacher_and_its_students_compose(recipe):
    overrides, arms = distillation.RECIPES[recipe]
    cfg = compose("cross_validate", [*overrides, *distillation.FOLDS, "data.root=x"])
    validate(cfg)
    assert (cfg.data.folds, cfg.data.fold_val) == (5, False)
    for arm in arms:
        validate(compose("train", [*overrides, *distillation.ARMS[arm], "teacher.table=x.csv", "data.root=x"]))


def test_the_leakage_study_composes():
    cfg = compose("train", [*leakage.OVERRIDES, "data.table=x.csv"])
    validate(cfg)
    assert cfg.data.allow_leakage


@pytest.mark.parametrize("typed", [[*studies.PLAIN, "tta=flip"], chen2018_best.PART])
def test_the_measurements_compose(typed):
    cfg = compose("eval", ["ckpt=x", *typed])
    validate(cfg)
    assert (cfg.split, cfg.calibrated) == ("val", False)


@pytest.mark.parametrize("name", [name for name in choices_of("experiment") if name.startswith("chen2018")])
@pytest.mark.parametrize("command", ["train", "cross_validate"])
def test_the_ready_made_experiments_compose(name, command):
    cfg = compose(command, [f"experiment={name}", "data.root=x"])
    validate(cfg)
    assert cfg.data.name == "chen2018"


def test_rows_are_replaced_by_their_key_and_others_stay(tmp_path):
    file = tmp_path / "results.csv"
    studies.keep(
        file, [{"name": "a", "seed": 1, "x": 0.123456}, {"name": "b", "seed": "all", "x": 2.0}], ("name", "seed")
    )
    table = studies.keep(file, [{"name": "a", "seed": 1, "x": 3.0, "y": 1.0}], ("name", "seed"))
    read = pd.read_csv(file)
    assert len(table) == len(read) == 2
    assert read.set_index("name")["x"].to_dict() == {"a": 3.0, "b": 2.0}
    assert list(tmp_path.iterdir()) == [file]


@pytest.fixture
def right():
    """Predictions of 40 knees of 20 patients, all of them right."""
    grades = [0, 1, 2, 3, 4] * 8
    rows = {
        "path": [f"{i}.png" for i in range(40)],
        "patient": [f"P{i // 2}" for i in range(40)],
        "side": ["L", "R"] * 20,
    }
    table = pd.DataFrame({**rows, "grade": grades})
    for grade in range(5):
        table[f"p{grade}"] = [0.6 if g == grade else 0.1 for g in grades]
    return table


def test_numbers_with_their_intervals(right):
    right.loc[:9, ["p0", "p1", "p2", "p3", "p4"]] = [0.6, 0.1, 0.1, 0.1, 0.1]
    row = studies.measure(right)
    assert row["accuracy"] == 0.8
    assert 0.5 < row["accuracy_low"] < 0.8 < row["accuracy_high"] < 1
    names = [f"{name}{rule}" for name in studies.SHOWN for rule in studies.RULES]
    assert set(row) == {f"{name}{end}" for name in names for end in ("", "_low", "_high")}


def test_rows_are_kept_in_an_order(tmp_path):
    file = tmp_path / "results.csv"
    for name in ("old", "c", "a", "b", "a"):
        table = studies.keep(file, [{"name": name, "x": x} for x in (1, 2)], ("name",), ["a", "b", "c"])
    assert table["name"].tolist() == [name for name in ("a", "b", "c", "old") for _ in range(2)]
    assert table["x"].tolist() == [1, 2] * 4


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a shell script in place of Python; what a study starts is it."""

    def put(*lines):
        script = tmp_path / "python"
        script.write_text("\n".join(["#!/bin/sh", *lines]))
        script.chmod(0o755)
        monkeypatch.setattr(studies.sys, "executable", str(script))

    return put


def test_a_training_that_outlives_its_study(program, tmp_path, monkeypatch):
    def dies(pid, options):
        wait(pid, options)
        raise RuntimeError("killed")

    wait = studies.os.wait4
    folders = [tmp_path / f"seed_{seed}" for seed in (1, 2)]
    program(*(f'echo \'{{"checkpoint": "x.ckpt", "best_epoch": 1}}\' > {folder}/done.json' for folder in folders))
    folders[1].mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(studies.os, "wait4", dies)
        patch.setattr(studies, "git_facts", lambda: {"commit": "0123456789ab"})
        with pytest.raises(RuntimeError):
            studies.train(folders[0], [])
    done = studies.train(folders[0], [])
    assert (done["minutes_alone"], done["commit"]) == (None, "0123456789")

    def keep(row, checkpoints, folder):
        studies.keep(tmp_path / "results.csv", [row], ("name",))

    (folders[1] / "study.json").write_text('{"seconds": [60.0, 180.0], "commit": "x"}')  # both its ends were seen
    chen2018_best.seeds("data.root=x", tmp_path, [1, 2], [], keep)
    rows = pd.read_csv(tmp_path / "results.csv").set_index("name")
    assert rows["minutes_alone"].isna().tolist() == [True, False, True]
    assert rows.loc["seed 2", "minutes_alone"] == 2


def test_a_run_of_the_recipe_that_was_trained_from_elsewhere(tmp_path, monkeypatch):
    record = SimpleNamespace(
        config={"trainer": {"max_epochs": 1}, "seed": 1},
        net=SimpleNamespace(name="n"),
        plan=SimpleNamespace(precision="fp32"),
        preprocessing=SimpleNamespace(image_size=32),
        data=SimpleNamespace(counts={"train": [1]}, fingerprint="f"),
    )
    monkeypatch.setattr(recipe.reading, "read", lambda file: SimpleNamespace(record=record))
    monkeypatch.setattr(recipe, "evaluated", lambda facts, *more: [facts])
    (tmp_path / "rank").mkdir()
    (tmp_path / "rank" / "done.json").write_text('{"checkpoint": "x.ckpt", "best_epoch": 1}')
    [row] = recipe.rows_of("rank", listed()["rank"], tmp_path, tmp_path, [])
    assert row["minutes_alone"] is None


def trials(folder, numbers, members):
    """Make the folders of trials of a sweep, of which some are members of the ensemble."""
    for name in (*map(str, numbers), "ensemble"):
        (folder / name).mkdir(parents=True)
    for number in numbers:
        (folder / str(number) / "done.json").write_text(json.dumps({"checkpoint": f"of {number}"}))
    given = [{"checkpoint": str(folder / str(number) / "checkpoints" / "best.ckpt")} for number in members]
    (folder / "ensemble" / "ensemble.json").write_text(json.dumps({"members": given}))


def test_the_networks_are_the_members_of_the_ensemble(tmp_path):
    trials(tmp_path, range(4), [1, 2, 3])  # 0 had ended as the sweep was killed, and was repeated as 3
    assert [run["checkpoint"] for run in studies.sweep(tmp_path, [])["runs"]] == ["of 1", "of 2", "of 3"]


@pytest.mark.parametrize("code", [1, 0])
def test_a_sweep_with_a_failed_trial_ends_the_study_each_time(code, program, tmp_path):
    trials(tmp_path / "made", [0, 1], [0, 1])
    program(f"cp -r {tmp_path}/made/. {tmp_path}/sweep", f"exit {code}")
    for _ in range(2):
        if code:
            with pytest.raises(SystemExit) as ended:
                studies.sweep(tmp_path / "sweep", [])
            assert ended.value.code == code
        else:
            assert len(studies.sweep(tmp_path / "sweep", [])["runs"]) == 2
    assert len(json.loads((tmp_path / "sweep" / "study.json").read_text())["seconds"]) == 1 + code


@pytest.mark.parametrize("code", [1, 0])
def test_a_cross_validation_is_done_once_all_folds_are(code, program, tmp_path):
    folder = tmp_path / "folds"
    program(f"mkdir -p {folder}", *([] if code else [f"touch {folder}/predictions.csv"]), f"exit {code}")
    for _ in range(2):
        if code:
            with pytest.raises(SystemExit):
                studies.cross_validate(folder, [])
        else:
            assert studies.cross_validate(folder, [])["minutes_alone"] >= 0
    assert len(json.loads((folder / "study.json").read_text())["seconds"]) == 1 + code


def test_a_folder_of_any_name_reaches_the_sweep(tmp_path, monkeypatch):
    def ends(module, typed, folder):
        values = {one.get_key_element(): one.value() for one in OverridesParser.create().parse_overrides(typed[1:])}
        seen.append([getattr(values[key], "text", values[key]) for key in ("data.root", "sweep.folder")])
        raise SystemExit(3)

    seen = []
    monkeypatch.setattr(studies, "_run", ends)
    root, out = tmp_path / "Chen (2018)", tmp_path / "a, b"
    monkeypatch.setattr("sys.argv", ["study", str(root), "networks", "--out", str(out)])
    with pytest.raises(SystemExit):
        chen2018_best.main()
    assert seen == [[str(root), str(out / "networks")]]


def test_an_ensemble_in_a_folder_with_a_comma(tmp_path, monkeypatch):
    def ends(module, typed, folder):
        seen.append(of_ensemble.find(typed[0].removeprefix("ckpt="), None))
        raise SystemExit(3)

    seen = []
    monkeypatch.setattr(studies, "_run", ends)
    files = [tmp_path / "a,b" / name for name in ("1.ckpt", "2.ckpt")]
    with pytest.raises(SystemExit):
        studies.evaluate(files, tmp_path, [])
    assert seen == [files]


def test_what_a_run_gains_over_another(right):
    wrong = right.copy()
    wrong.loc[:9, ["p0", "p1", "p2", "p3", "p4"]] = [0.1, 0.1, 0.1, 0.1, 0.6]
    row = studies.gain(right, wrong.sample(frac=1, random_state=0))  # in whatever order
    assert row["accuracy_gain"] == pytest.approx(0.2)
    assert row["accuracy_gain_low"] > 0
    assert studies.gain(right, right)["quadratic_kappa_gain"] == 0


def test_a_page_gets_its_table(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("# One\n\n<!-- results -->\nold\n<!-- end of results -->\n\nmore\n")
    row = {f"{name}{end}": value for name in studies.GAINS for end, value in
           (("", 0.6884), ("_low", 0.5), ("_high", 1.0))}  # fmt: skip
    for _ in range(2):  # it takes the place of the one before
        studies.show(page, [{"run": "a", "accuracy": studies.intervals(row)["accuracy"]}])
        assert page.read_text() == (
            "# One\n\n<!-- results -->\n\n| run | accuracy |\n| --- | --- |\n| a | .688 (.500 to 1.000) |\n\n"
            "<!-- end of results -->\n\nmore\n"
        )
    page.write_text("# Two\n")
    with pytest.raises(ValueError, match=r"README\.md: has no lines"):
        studies.show(page, [{"run": "a"}])


@pytest.mark.parametrize("study", [leakage, chen2018_best, distillation])
def test_the_tables_on_the_pages_are_those_of_the_results(study, tmp_path):
    if not (study.HERE / "results.csv").exists():
        pytest.skip("it was not run yet")
    folder = shutil.copytree(study.HERE, tmp_path / "study")
    study.page(folder if study is leakage else folder / "results.csv")
    assert (folder / "README.md").read_text() == (study.HERE / "README.md").read_text()


def test_the_ensemble_is_the_recipe_with_three_networks_and_fewer_epochs():
    one, all_of_them = (
        OmegaConf.to_container(compose("train", [f"experiment=chen2018_{name}", "data.root=x", "out=x", "name=x"]))
        for name in ("best", "ensemble")
    )
    sweep = all_of_them.pop("sweep")
    nets = ",".join(f"tf_efficientnet_lite{i}" for i in range(3))
    assert (sweep["method"], sweep["space"], sweep["ensemble"]) == ("grid", {"model.name": f"choice({nets})"}, True)
    assert (all_of_them["trainer"].pop("max_epochs"), one["trainer"].pop("max_epochs")) == (16, 26)
    assert (all_of_them["optimizer"].pop("frozen_stages"), one["optimizer"].pop("frozen_stages")) == (3, 0)
    assert all_of_them == one


def test_the_ready_made_recipe_is_the_long_run_of_the_study():
    ready = compose("train", ["experiment=chen2018_best", "data.root=x", "trainer=cpu", "explain=none", "out=x"])
    studied = compose("train", [*listed()["long"]["overrides"], "data.root=x", "out=x", "name=chen2018_best"])
    assert ready == studied
