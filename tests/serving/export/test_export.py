"""An exported file agrees with its checkpoint, grades as one, and says what it is."""

import numpy as np
import pytest

from koa_lightning.config.compose import compose
from koa_lightning.errors import InputError
from koa_lightning.evaluation.calibrate import calibrate
from koa_lightning.evaluation.evaluate import evaluate
from koa_lightning.evaluation.explain_tests import explain_tests
from koa_lightning.evaluation.predictor import load_model
from koa_lightning.serving.export import formats
from koa_lightning.training.run import train

pytest.importorskip("onnxruntime")

COLUMNS = [f"p{grade}" for grade in range(5)]


@pytest.mark.parametrize("kind", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_it_grades_as_its_checkpoint_does(export_of, kind, calibrated_checkpoint, as_onnx, tmp_path):
    pytest.importorskip(kind)
    folder, made = as_onnx
    if kind == "openvino":
        folder, made = tmp_path / "out", export_of(calibrated_checkpoint, tmp_path / "out", "format=openvino")
    assert made["largest"] <= 1e-4 and made["same_grade"] == 1
    file = folder / f"grader{formats.SUFFIX[kind]}"
    pictures = [np.random.default_rng(seed).integers(0, 256, (50, 40), np.uint8) for seed in range(3)]
    ours, theirs = load_model(calibrated_checkpoint), load_model(file)
    tables = [each.predict(pictures) for each in (ours, theirs)]
    assert np.abs(tables[0][COLUMNS].to_numpy() - tables[1][COLUMNS].to_numpy()).max() < 1e-4
    for column in ("predicted", "median_grade", "set", "foreign", "refer"):
        assert tables[0][column].tolist() == tables[1][column].tolist()
    assert theirs.checkpoints[0].record.caveats == ours.checkpoints[0].record.caveats
    assert "not a medical device" in (folder / "card.md").read_text()
    assert {each.name for each in folder.iterdir()} >= {file.name, "card.md"}
    assert not list(folder.glob("part-*"))


@pytest.mark.slow
def test_an_ensemble_averages_calibrated_probabilities(export_of, write_checkpoint, tmp_path):
    entry = {"method": "temperature", "parameters": {"temperature": 0.5}}
    files = [
        write_checkpoint(tmp_path / "a.ckpt", calibration=entry),
        write_checkpoint(tmp_path / "b.ckpt", seed=1),
    ]
    export_of(f"[{files[0]},{files[1]}]", tmp_path / "out")
    pictures = [np.random.default_rng(seed).integers(0, 256, (50, 40), np.uint8) for seed in range(3)]
    tables = [load_model(each).predict(pictures) for each in (files, tmp_path / "out" / "grader.onnx")]
    assert np.abs(tables[0][COLUMNS].to_numpy() - tables[1][COLUMNS].to_numpy()).max() < 1e-4
    assert tables[1]["set"].eq("").all()


def test_what_cannot_be_exported_is_one_line(export_of, calibrated_checkpoint, as_onnx, write_checkpoint, tmp_path):
    with pytest.raises(InputError, match="written in fp32"):
        export_of(calibrated_checkpoint, tmp_path / "out", "format=torchscript", "precision=int8")
    other = write_checkpoint(tmp_path / "b.ckpt", preprocessing={"image_size": 48})
    with pytest.raises(InputError, match="prepares its images differently"):
        export_of(f"[{calibrated_checkpoint},{other}]", tmp_path / "out")
    with pytest.raises(InputError, match="an export already"):
        export_of(as_onnx[0] / "grader.onnx", tmp_path / "again")


def test_what_needs_the_training_is_one_line(as_onnx, calibrated_checkpoint, tmp_path):
    file, out = as_onnx[0] / "grader.onnx", tmp_path / "out"
    before = file.read_bytes()
    for function, name, more, words in (
        (calibrate, "calibrate", [], "whose calibration stays as it is"),
        (explain_tests, "explain_tests", ["split=val"], "whose weights the tests of heat maps cannot change"),
        (evaluate, "eval", ["split=val", "explain.tests=true", "tracking=none"], "tests of heat maps cannot change"),
        (train, "train", ["data=phantom"], "from which no run can resume"),
    ):
        with pytest.raises(InputError, match=words):
            function(compose(name, [f"ckpt={file}", f"out={out}", *more]))
    assert file.read_bytes() == before
