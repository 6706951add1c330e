"""Exported files from elsewhere are data."""

import struct

import pytest

from koa_lightning.checkpoint import exported
from koa_lightning.checkpoint.reading import read
from koa_lightning.checkpoint.record import RECORD
from koa_lightning.errors import InputError
from koa_lightning.models.exported import SUFFIXES
from koa_lightning.serving.export import formats

pytest.importorskip("onnxruntime")


def test_an_onnx_file_that_names_other_files_is_refused(onnx_file, tmp_path):
    onnx = pytest.importorskip("onnx")
    secret = tmp_path / "secret.bin"
    secret.write_bytes(struct.pack("<5f", *range(5)))
    model = onnx.load(onnx_file)
    tensor = next(each for each in model.graph.initializer if len(each.dims))
    onnx.external_data_helper.set_external_data(tensor, str(secret))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    onnx_file.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="weights are in other files"):
        read(onnx_file)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({RECORD: None}, "another program"),
        ({RECORD: "[" * 100_000}, "not a checkpoint"),
        ({RECORD: "{}"}, "another program"),
        ({"epoch": "-3"}, "epoch"),
        ({exported.TENSORS: "!!!"}, "not a checkpoint"),
    ],
)
def test_a_changed_header_is_one_line(onnx_file, change, words):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(onnx_file)
    texts = {each.key: each.value for each in model.metadata_props} | change
    formats.save_onnx(model, onnx_file, {key: value for key, value in texts.items() if value is not None})
    with pytest.raises(InputError, match=r"^ckpt=") as caught:
        read(onnx_file)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"<net><!DOCTYPE", b"\xff" * 1000])
def test_a_damaged_file_is_one_line(suffix, content, tmp_path):
    file = tmp_path / f"x{suffix}"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"^ckpt="):
        read(file)
