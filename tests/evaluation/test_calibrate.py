"""The whole way: fitted into a checkpoint, used by eval and predict."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from koa_lightning.checkpoint import fitted, reference
from koa_lightning.checkpoint import reading as checkpoint
from koa_lightning.config import outcome
from koa_lightning.config.compose import compose
from koa_lightning.evaluation import calibrate, predict, referral
from koa_lightning.evaluation.evaluate import evaluate
from koa_lightning.evaluation.grading import Member
from koa_lightning.metrics import predictions
from koa_lightning.uncertainty import fit

pytestmark = pytest.mark.usefixtures("blank_figures")
ON_DISK = ("calibration", "conformal", "abstention", "inputs")


@pytest.fixture
def small(monkeypatch):
    """Let the tiny runs have their six patients calibrated."""
    monkeypatch.setattr(fit, "MIN_PATIENTS", 5)
    monkeypatch.setattr(fit, "_winner", lambda method, losses: method)  # of so few, none would win by its cross-fit


@pytest.fixture
def calibrated(trained, tmp_path, small):
    """Return a function that calibrates a copy of the trained run's checkpoint."""

    def run(*overrides):
        file = tmp_path / "copy.ckpt"
        shutil.copy(trained.best, file)
        method = [] if any(each.startswith("method=") for each in overrides) else ["method=temperature"]
        cfg = compose("calibrate", [f"ckpt='{file}'", f"out='{tmp_path}/fitted'", "quiet=true", *method, *overrides])
        return file, calibrate.calibrate(cfg)

    return run


@pytest.fixture
def measure(tmp_path):
    def run(ckpt, *overrides):
        out = tmp_path / "eval"
        shutil.rmtree(out, ignore_errors=True)
        options = [f"ckpt='{ckpt}'", f"out='{out}'", "explain=none", "tracking=none", "report=false", "n_resamples=100"]
        options += overrides
        return evaluate(compose("eval", options)), pd.read_csv(out / "predictions.csv"), out

    return run


def test_training_says_that_its_split_is_too_small(trained, capsys):
    reason = "6 patients with labelled knees in the validation split, at least 50 are needed"
    assert checkpoint.read(trained.best).record.fitted == fitted.Fitted.left_out(reason)
    assert {path.name for path in (trained.out / "figures").iterdir()} >= {"reliability.png", "risk_coverage.png"}


def test_it_is_stored_and_the_rest_stays(trained, calibrated, tmp_path, capsys):
    file, result = calibrated("method=ordinal")
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("calibrated on the validation split (6 patients): ordinal")
    before, after = (torch.load(path, weights_only=True) for path in (trained.best, file))
    assert set(after) - set(before) == {reference.TENSORS}
    read = checkpoint.read(file)
    assert read.record.fitted.calibration.parameters == {name: result[name] for name in ("scale", "shift")}
    assert all(torch.equal(value, after["state_dict"][name]) for name, value in before["state_dict"].items())
    others = [
        {key: value for key, value in content["koa_lightning"].items() if key not in fitted.KEYS.values()}
        for content in (before, after)
    ]
    assert others[0] == others[1]
    made = {path.name for path in (tmp_path / "fitted").iterdir()}
    assert made == {
        "calibration.json", "conformal.json", "abstention.json", "inputs.json", "reliability.png", "risk_coverage.png",
    }  # fmt: skip
    assert not list(tmp_path.glob("*.part"))


def test_what_loses_by_its_cross_fit_is_not_stored(calibrated, capsys, monkeypatch):
    monkeypatch.setattr(fit, "_winner", lambda method, losses: "none")
    file, result = calibrated("method=ordinal")
    said = capsys.readouterr().out.splitlines()[0]
    assert said.startswith("not calibrated: on the validation split (6 patients) ordinal does not lower the cross-")
    assert result["method"] == checkpoint.read(file).record.fitted.method == "none"


@pytest.mark.slow
def test_eval_raw_is_the_epoch_that_chose_the_checkpoint(trained, calibrated, measure):
    file, _ = calibrated()
    raw, _, _ = measure(file, "split=val", "calibrated=false")
    for name, value in trained.result.items():
        if name.startswith("val/"):
            assert raw[name.removeprefix("val/")] == pytest.approx(value, abs=1e-5), name
    nominal, _, _ = measure(file, "split=val")
    for name in ("accuracy", "quadratic_kappa", "mae", "f1_macro", "loss"):  # temperature leaves the grade
        assert nominal[name] == pytest.approx(raw[name], abs=1e-6)
    assert nominal["ece"] != pytest.approx(raw["ece"], abs=1e-4)


@pytest.mark.slow
def test_eval_gives_the_probabilities_of_the_checkpoint(calibrated, measure):
    file, _ = calibrated("method=ordinal")
    read = checkpoint.read(file)
    for overrides, use in (([], True), (["calibrated=false"], False)):
        _, rows, out = measure(file, "split=test", *overrides)
        logits = torch.tensor(rows[predictions.LOGITS].to_numpy(dtype=np.float32))
        wanted = Member(read).probabilities(logits, use)
        assert np.allclose(rows[predictions.PROBABILITIES], wanted, atol=1e-5)
        assert (rows["predicted"] == wanted.argmax(1).numpy()).all()
    written = {name: json.loads((out / f"{name}.json").read_text()) for name in ON_DISK}
    assert written["calibration"]["method"] == "ordinal"
    assert 0 <= written["conformal"]["coverage"] <= 1
    assert written["abstention"]["curve"][-1][0] == 1.0
    assert written["inputs"]["n_inputs"] == len(rows)


@pytest.mark.slow
def test_eval_of_its_own_split_is_said_to_be_cross_fitted(calibrated, measure, capsys):
    file, _ = calibrated()
    capsys.readouterr()
    _, _, out = measure(file, "split=val")
    assert "cross-fitted by patient" in json.loads((out / "calibration.json").read_text())["measured"]
    assert "cross-fitted by patient" in capsys.readouterr().out
    _, _, out = measure(file, "split=test", "tta=flip", "refer_below=0.3")
    assert json.loads((out / "abstention.json").read_text())["threshold"] == 0.3
    assert "not used in the fit" in json.loads((out / "calibration.json").read_text())["measured"]
    for split in ("split=all", "split=train"):
        _, _, out = measure(file, split)
        for name in ("calibration", "conformal", "inputs"):
            assert json.loads((out / f"{name}.json").read_text())["measured"].startswith("optimistic: "), (split, name)


@pytest.fixture
def graded(calibrated, knees, tmp_path):
    """Grade phantoms and a picture of noise."""

    def run(*overrides):
        file, _ = calibrated()
        folder, out = tmp_path / "given", tmp_path / "out"
        shutil.copytree(knees / "2", folder, dirs_exist_ok=True)
        noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
        Image.fromarray(noise).save(folder / "noise.png")
        options = [f"ckpt='{file}'", f"input='{folder}'", f"out='{out}'", "quiet=true", "overlays=false", *overrides]
        return predict.predict(compose("predict", options)), pd.read_csv(out / "predictions.csv"), out, file

    return run


@pytest.mark.slow
def test_predict_says_set_and_foreign_and_whom_to_ask(graded, capsys):
    result, rows, out, file = graded("refer_below=0.99")
    assert result["exit_code"] == outcome.DONE
    read = checkpoint.read(file)
    logits = torch.tensor(rows[predictions.LOGITS].to_numpy(dtype=np.float32))
    assert np.allclose(rows[predictions.PROBABILITIES], Member(read).probabilities(logits), atol=1e-5)
    noise = rows["path"].str.endswith("noise.png")
    assert rows[noise]["foreign"].tolist() == ["yes"]
    assert rows["foreign_score"][noise].item() > rows["foreign_score"][~noise].max()
    unsure = rows[predictions.PROBABILITIES].max(axis=1) < 0.99
    assert (rows["refer"].notna() == (rows["foreign"] == "yes") | unsure).all()
    assert ((rows["set_low"] <= rows["predicted"]) & (rows["predicted"] <= rows["set_high"])).all()
    written = json.loads((out / "predictions.json").read_text())
    assert (written["calibration"], written["alpha"], written["refer_below"]) == ("temperature", 0.1, 0.99)
    knee = next(knee for knee in written["knees"] if knee["path"].endswith("noise.png"))
    assert knee["foreign"] is True and "out-of-distribution input" in knee["refer"] and knee["set"]
    printed = capsys.readouterr().out
    assert "inputs look out-of-distribution" in printed and "refer to a reader" in printed and "; set " in printed


@pytest.mark.slow
def test_predict_raw(graded):
    _, rows, out, file = graded("calibrated=false", "alpha=0.2")
    logits = torch.tensor(rows[predictions.LOGITS].to_numpy(dtype=np.float32))
    assert np.allclose(
        rows[predictions.PROBABILITIES], Member(checkpoint.read(file)).probabilities(logits, False), atol=1e-5
    )
    assert json.loads((out / "predictions.json").read_text())["calibration"] == "none"


def test_an_older_checkpoint_still_grades_and_says_what_is_missing(trained, knees, tmp_path, capsys):
    content = torch.load(trained.best, weights_only=True)
    for key in ON_DISK:
        content["koa_lightning"].pop(key)
    file = tmp_path / "old.ckpt"
    torch.save(content, file)
    options = [f"ckpt='{file}'", f"input='{knees}/3'", f"out='{tmp_path}/out'", "quiet=true", "overlays=false"]
    predict.predict(compose("predict", options))
    assert "WARNING: this checkpoint has no calibration" in capsys.readouterr().out
    rows = pd.read_csv(tmp_path / "out/predictions.csv")
    assert rows[referral.COLUMNS].isna().all().all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["refer_below=0.5", "refer_risk=0.1"], "refer_below=0.5 and refer_risk=0.1: give only one of them"),
        (["refer_risk=0.1"], "refer_risk=0.1: the checkpoint has no risk curve (6 patients"),
        (["alpha=0.125"], "alpha=0.125: must be one of 0.01, 0.02"),
        (["alpha=0.9"], "alpha=0.9: must be a number from 0.01 to 0.5"),
        (["calibrated=maybe"], "calibrated=maybe: must be one of true, false"),
    ],
)
def test_bad_input_is_one_line(trained, knees, launch, arguments, words):
    ended = launch("predict", f"ckpt={trained.best}", f"input={knees}/3", *arguments)
    assert ended.code == outcome.BAD_INPUT
    assert len(ended.err) == 1 and words in ended.err[0]


def test_calibrate_from_the_command_line(trained, launch):
    for arguments, words in (
        (["ckpt=nowhere.ckpt"], "there is no such file"),
        ([f"ckpt={trained.best}", "method=isotonic"], "method=isotonic: must be one of auto, temperature,"),
        ([], "ckpt: must be given"),
    ):
        ended = launch("calibrate", *arguments)
        assert ended.code == outcome.BAD_INPUT
        assert len(ended.err) == 1 and words in ended.err[0]
