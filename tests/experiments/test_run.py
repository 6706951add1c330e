"""The studies' programs, end to end on a handful of phantoms and the smallest network."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from experiments import studies
from experiments.chen2018_best import run as best
from experiments.leakage import run as leakage
from experiments.leakage.protocols import PROTOCOLS, draw, table
from experiments.recipe import run as recipe
from koa_lightning.data.audit.findings import EXIT_CODES, LEAKAGE
from koa_lightning.data.phantom.manifest import draw_phantoms

TINY = ["model.name=test_efficientnet", "model.weights=none", "trainer.precision=fp32", "trainer.max_epochs=1",
        "data.image_size=32", "data.batch_size=8"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Chen's layout: 20 patients to train on, 8 to validate on, and no test split."""
    root = tmp_path_factory.mktemp("chen")
    for split, first, n in (("train", 9_000_000, 20), ("val", 9_100_000, 8)):
        patients = [str(first + i) for i in range(n) for _ in "LR"]
        sides, grades = ["L", "R"] * n, [i % 5 for i in range(n) for _ in "LR"]
        for image, patient, side, grade in zip(
            draw_phantoms(patients, sides, grades, seed=1, size=64), patients, sides, grades, strict=True
        ):
            file = root / split / str(grade) / f"{patient}{side}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
    return root


@pytest.fixture(scope="module")
def knees(folder):
    return draw(folder, 24, 6)


def test_one_knee_of_each_tested_patient(folder, knees):
    test, mates, others = knees
    assert len(test) == len(mates) == test["patient"].nunique() == 6
    assert set(test["patient"]) == set(mates["patient"])
    assert (test.set_index("patient")["side"] != mates.set_index("patient")["side"].loc[test["patient"]]).all()
    assert len(others) == 36
    assert not set(others["patient"]) & set(test["patient"])
    assert draw(folder, 24, 6)[0].equals(test)


@pytest.mark.parametrize("name", [name for name, protocol in PROTOCOLS.items() if not protocol.trains_as])
def test_protocols_differ_in_what_leaks_alone(name, knees, tmp_path):
    rows = table(name, 0, knees, tmp_path)
    train, val = (rows[rows["split"] == split] for split in ("train", "val"))
    assert len(train) == 36
    assert set(val["path"]) == set(knees[0]["path"])
    assert not set(train["path"]) & set(val["path"])
    outside = ~train["path"].isin(knees[2]["path"])
    assert outside.sum() == val["twin"].sum()
    assert bool(outside.any()) == (name != "by_patient")
    names = set(train["patient"]) & set(val["patient"])
    assert bool(names) == (name in ("at_random", "augmented"))
    assert table(name, 0, knees, tmp_path).equals(rows)


@pytest.fixture
def typed(monkeypatch, with_package, alone):
    monkeypatch.setenv("PYTHONPATH", with_package["PYTHONPATH"])

    def call(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["study", *map(str, arguments)])
        main()

    return call


@pytest.mark.slow
def test_the_leakage_study(folder, tmp_path, typed, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [folder, "--seeds", 0, "--patients", 24, "--tested", 6, "--results", tmp_path / "r"]
    typed(leakage.main, *arguments, "--with", *TINY, "tracking=none")
    results, audit = (pd.read_csv(tmp_path / "r" / f"{name}.csv") for name in ("results", "audit"))
    assert set(results["protocol"]) == set(audit["protocol"]) == set(PROTOCOLS)
    assert set(results["seed"]) == {"0", "all"}
    said = audit.set_index("protocol")["exit_code"]
    assert {name for name, code in said.items() if code == EXIT_CODES[LEAKAGE]} >= {"at_random", "augmented"}
    assert said["by_patient"] != EXIT_CODES[LEAKAGE]
    assert (tmp_path / "r" / "accuracy.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_run_of_the_recipe(folder, tmp_path, typed, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [folder, "rank_mixup", "--results", tmp_path / "results.csv", "--with", *TINY, "tracking=none"]
    typed(recipe.main, *arguments)
    typed(recipe.main, *arguments)  # it is done: measured again at most
    rows = pd.read_csv(tmp_path / "results.csv")
    assert rows["tta"].tolist() == ["none", "flip"]
    assert (rows["knees"] == 16).all()
    assert (rows["train_knees"] == 20).all()
    assert (rows["minutes_alone"] >= 0).all()
    assert rows["accuracy"].between(0, 1).all()


@pytest.mark.slow
def test_short_runs_are_listed_in_order_and_drawn(folder, tmp_path, typed, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    arguments = ["--results", tmp_path / "results.csv", "--with", *TINY, "tracking=none"]
    typed(recipe.main, folder, "rank_seed_1", *arguments)
    assert "no figure: it shows gains over the run rank" in capfd.readouterr().out
    typed(recipe.main, folder, "rank", "rank_seed_1", "rank_seed_2", *arguments)
    rows = pd.read_csv(tmp_path / "results.csv")
    assert rows["name"].tolist() == [
        name for name in ("rank", "rank_seed_1", "rank_seed_2", "rank_and_seeds") for _ in "nf"
    ]
    assert rows["quadratic_kappa_gain_low"].notna().tolist() == [False] * 2 + [True] * 6
    assert (tmp_path / "results.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_networks_of_the_ensemble_are_a_sweep(folder, tmp_path, typed, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = [item for item in TINY if not item.startswith("model.name")]
    arguments = [folder, "networks", "--results", tmp_path / "results.csv", "--with", *tiny, "tracking=none"]
    for _ in range(2):  # it is done: nothing is trained again
        typed(best.main, *arguments)
        rows = pd.read_csv(tmp_path / "results.csv")
        nets = [f"tf_efficientnet_lite{i} of the ensemble" for i in range(3)]
        assert rows["name"].tolist() == [*nets, "ensemble of 3 networks"]
        assert rows["minutes_alone"].notna().tolist() == [False, False, False, True]
        assert (rows["knees"] == 16).all()
    arguments[1] = "views"
    typed(best.main, *arguments, "model.name=test_efficientnet")
    rows = pd.read_csv(tmp_path / "results.csv")
    views = ["tf_efficientnet_lite1 on the whole radiograph", "ensemble of 3 networks and the whole radiograph"]
    assert rows["name"].tolist() == [*nets, "ensemble of 3 networks", *views]
    assert "data.top=0 data.bottom=1" in rows["command"].iloc[4]


@pytest.mark.slow
def test_the_seeds_of_the_best_and_their_ensemble(folder, tmp_path, typed, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "README.md"
    page.write_text("<!-- results -->\n<!-- end of results -->\n")
    arguments = [folder, "seeds", "--seeds", 1, 2, "--results", tmp_path / "results.csv"]
    typed(best.main, *arguments, "--with", *TINY, "tracking=none")
    rows = pd.read_csv(tmp_path / "results.csv")
    assert rows["name"].tolist() == ["seed 1", "seed 2", "ensemble of 2 seeds"]
    assert (rows["data"] == rows["data"].iloc[0]).all() and (rows["knees"] == 16).all()
    assert rows["minutes_alone"].iloc[2] == pytest.approx(rows["minutes_alone"].iloc[:2].sum(), abs=1e-3)
    assert "| ensemble of 2 seeds |" in page.read_text()
    own = ["--seeds", 1, "--named", "again", "--out", tmp_path / "again", "--with", *TINY, "tracking=none"]
    typed(best.main, *arguments, *own)
    again = pd.read_csv(tmp_path / "results.csv")
    assert again["name"].tolist() == ["seed 1", "seed 2", "ensemble of 2 seeds", "seed 1 again"]
    assert again["accuracy"].iloc[3] == again["accuracy"].iloc[0]


@pytest.mark.slow
def test_an_unknown_run_is_named(folder, typed, capsys):
    with pytest.raises(SystemExit) as ended:
        typed(recipe.main, folder, "rank_magic")
    assert ended.value.code == 2
    assert "rank_magic: no such run; there are baseline" in capsys.readouterr().err


def test_an_unknown_part_is_named(folder, typed, capsys):
    with pytest.raises(SystemExit) as ended:
        typed(best.main, folder, "folds")
    assert ended.value.code == 2
    assert "folds: there are seeds, networks, views" in capsys.readouterr().err


def test_audits_are_kept_by_seed(tmp_path, monkeypatch):
    def answer(cfg):  # of the audit: as many leaks as the seed in the table's name
        n = int(cfg.data.table.removesuffix(".csv").rpartition("_")[2])
        out = Path(cfg.out)
        out.mkdir()
        (out / "audit.json").write_text('{"exit_code": 1}')
        pd.DataFrame({"kind": ["same_pixels"] * n, "severity": [LEAKAGE] * n}).to_csv(out / "findings.csv")

    monkeypatch.setattr("koa_lightning.reporting.audit.audit", answer)
    for seed in (2, 1, 2):
        file = tmp_path / f"at_random_{seed}.csv"
        assert leakage.audited("at_random", file, tmp_path)["leakage_findings"] == seed


def test_a_training_that_fails_ends_the_study(tmp_path, typed, monkeypatch):
    monkeypatch.setattr(studies.sys, "executable", "/bin/false")
    with pytest.raises(SystemExit) as ended:
        studies.train(tmp_path / "run", [])
    assert ended.value.code == 1
