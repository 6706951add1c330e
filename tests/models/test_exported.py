"""An exported file in place of a network."""

import json

import numpy as np
import pytest
from PIL import Image

from koa_lightning.checkpoint.reading import read
from koa_lightning.checkpoint.record import RECORD
from koa_lightning.config.compose import compose
from koa_lightning.errors import InputError
from koa_lightning.evaluation.predictor import load_model
from koa_lightning.models.exported import onnx_program
from koa_lightning.serving.export import formats

pytest.importorskip("onnxruntime")


def test_a_record_that_does_not_fit_the_program_is_one_line(onnx_file, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(onnx_file)
    texts = {each.key: each.value for each in model.metadata_props}
    record = json.loads(texts[RECORD])
    record["preprocessing"]["image_size"] = 48
    formats.save_onnx(model, onnx_file, {**texts, RECORD: json.dumps(record)})
    with pytest.raises(InputError, match=r"of shape \(4, 1, 48, 48\)"):
        load_model(onnx_file).predict(np.zeros((40, 40), np.uint8))


def test_predict_draws_its_heat_maps(onnx_file, calibrated_checkpoint, tmp_path):
    from koa_lightning.evaluation.predict import predict

    image = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(image).save(tmp_path / "knee.png")
    for name, ckpt in (("ours", calibrated_checkpoint), ("theirs", onnx_file)):
        predict(compose("predict", [f"ckpt={ckpt}", f"input={tmp_path / 'knee.png'}", f"out={tmp_path / name}"]))
    drawn = [next((tmp_path / name / "overlays").glob("*.png")) for name in ("ours", "theirs")]
    ours, theirs = (np.asarray(Image.open(each), dtype=float) for each in drawn)
    assert ours.shape == theirs.shape and np.abs(ours - theirs).mean() < 2


def test_the_program_takes_any_number_of_images(onnx_file):
    program, texts = onnx_program(onnx_file.read_bytes())
    size = read(onnx_file).preprocessing.image_size
    assert [len(program(np.zeros((n, 1, size, size), np.uint8))["probabilities"]) for n in (1, 5)] == [1, 5]
    assert texts["licence"] and json.loads(texts["checksums"])
