"""The public API of `import koa_lightning`."""

import importlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import koa_lightning as koa
from koa_lightning.errors import InputError
from koa_lightning.metrics.intervals import Interval


def test_importing_the_command_leaves_the_function_of_its_name(monkeypatch):
    monkeypatch.delitem(sys.modules, "koa_lightning.train", raising=False)
    command = importlib.import_module("koa_lightning.train")
    assert sys.modules["koa_lightning.train"] is command
    assert koa.train.__module__ == "koa_lightning.training.api"


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import koa_lightning as koa; import koa_lightning.train; koa.train.__name__; f = koa.train",
        "import koa_lightning.train; import koa_lightning as koa; f = koa.train",
        "import koa_lightning as koa; f = koa.train; from koa_lightning.train import main; assert koa.train is f",
        "from koa_lightning import train as f; import koa_lightning.train, koa_lightning as koa; assert koa.train is f",
    ],
)
def test_the_command_of_the_same_name_does_not_hide_the_function(code, with_package):
    code = f"{code}; assert f.__module__ == 'koa_lightning.training.api', f"
    subprocess.run([sys.executable, "-c", code], env=with_package, check=True)


def test_the_command_still_runs(with_package):
    done = subprocess.run(
        [sys.executable, "-m", "koa_lightning.train", "--help"],
        env=with_package, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "koa_lightning.train" in done.stdout


def test_importing_it_is_light(with_package):
    code = "import sys, koa_lightning; assert not {'torch', 'numpy', 'omegaconf', 'hydra'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=with_package, check=True)


def test_what_there_is():
    assert set(koa.__all__) <= set(dir(koa))
    for name in koa.__all__:
        assert getattr(koa, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        koa.trian  # noqa: B018


def test_train_load_predict_explain_evaluate(tiny, tmp_path, alone, monkeypatch, knees):
    monkeypatch.chdir(tmp_path)
    result = koa.train(*tiny.overrides, "trainer.max_epochs=1", "explain=none", "tracking=none", "out=a run")
    assert result.finished and result.folder.name == "a run" and result.run_id == ""
    assert result.checkpoint.is_file() and 0 <= result.metrics["val/accuracy"] <= 1 and result.best_epoch == 0
    assert result.caveats == ("phantom data", "no pretrained weights")
    with pytest.raises(InputError, match="already holds a run"):
        koa.train(*tiny.overrides, "out=a run")
    grader = koa.load_model(result.checkpoint)
    array = np.random.default_rng(0).integers(0, 256, (90, 70), np.uint8)
    table = grader.predict([str(next(knees.glob("3/*.png"))), array])
    assert len(table) == 2 and table["patient"].tolist()[1] == ""
    assert grader.explain(array).shape == (90, 70)
    of_folder, own = koa.evaluate(grader, knees), koa.evaluate(grader, ["split=val", "n_resamples=100"])
    assert isinstance(of_folder["quadratic_kappa"], Interval)
    assert own["accuracy"].value == pytest.approx(result.metrics["val/accuracy"])
    again = koa.train(f"ckpt={result.folder}/checkpoints/last.ckpt", "trainer.max_epochs=2")
    assert again.finished and again.folder == result.folder.absolute()


def test_predictions_are_evaluated_as_they_are(graded_table):
    table = graded_table()
    found = koa.evaluate(None, table)
    assert found["accuracy"].value == pytest.approx((table["predicted"] == table["grade"]).mean())
    assert found["accuracy"].low < found["accuracy"].value < found["accuracy"].high
    with pytest.raises(InputError, match="there is no column p3"):
        koa.evaluate(None, table.drop(columns="p3"))
    with pytest.raises(InputError, match="there is no column grade"):
        koa.evaluate(None, pd.DataFrame())


def test_bad_input_is_said_in_one_line(write_checkpoint, tmp_path, knees):
    grader = koa.load_model(write_checkpoint(tmp_path / "best.ckpt"))
    for call, words in (
        (lambda: koa.train("modle=efflite0"), "modle"),
        (lambda: koa.train("optimizer.lr=fast"), "optimizer.lr=fast"),
        (lambda: koa.train("model="), "choose one of its choices"),
        (lambda: koa.train(5), "5: an override must be a string"),
        (lambda: koa.load_model("no.ckpt"), "there is no such file"),
        (lambda: koa.evaluate(grader, "nowhere"), "nowhere: there is no such folder or table"),
        (lambda: koa.evaluate(grader, ["subgroups=[side]"]), r"subgroups=\[side\]: evaluate takes data"),
        (lambda: koa.evaluate(None, knees), "grader=None"),
        (
            lambda: koa.evaluate(grader, ["data=phantom", "data.image_size=64"]),
            "data.image_size=64: the checkpoint requires",
        ),
        (lambda: koa.evaluate(grader, ["data=phantom", "data.batch_size=2"]), "data.batch_size=2: has no effect here"),
    ):
        with pytest.raises(InputError, match=words) as error:
            call()
        assert "\n" not in str(error.value)
