"""A checkpoint as a safetensors file for others: what it keeps, what it leaves out, and files from elsewhere."""

import json
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from koa_lightning.checkpoint import portable
from koa_lightning.checkpoint.reading import read
from koa_lightning.checkpoint.record import RECORD
from koa_lightning.config.compose import compose
from koa_lightning.errors import InputError
from koa_lightning.evaluation.calibrate import calibrate
from koa_lightning.evaluation.predictor import load_model


@pytest.fixture
def original(write_checkpoint, tmp_path):
    entry = {"method": "temperature", "parameters": {"temperature": 1.25}}
    return read(write_checkpoint(tmp_path / "best.ckpt", calibration=entry))


@pytest.fixture
def file(original, tmp_path):
    path = tmp_path / "grader.safetensors"
    portable.write(path, original.record, original.state, {}, original.epoch, {"licence": "CC BY 4.0"})
    return path


def test_it_grades_as_the_checkpoint_does(original, file):
    pictures = [np.random.default_rng(seed).integers(0, 256, (40, 40), np.uint8) for seed in range(3)]
    ours, theirs = (load_model(each).predict(pictures) for each in (original.path, file))
    columns = [f"p{grade}" for grade in range(5)]
    assert np.abs(ours[columns].to_numpy() - theirs[columns].to_numpy()).max() < 2e-3  # half precision
    assert (ours["predicted"] == theirs["predicted"]).all()


def test_matrices_are_halved_and_vectors_are_not(original, file):
    stored = load_file(file)
    assert set(stored) == {f"net.{name}" for name in original.state}
    for name, value in original.state.items():
        wanted = torch.float16 if value.is_floating_point() and value.ndim > 1 else value.dtype
        assert stored[f"net.{name}"].dtype == wanted
    again = read(file)
    assert (again.epoch, again.epochs_done) == (original.epoch, original.epoch + 1)
    assert all(again.state[name].dtype == value.dtype for name, value in original.state.items())


def test_the_same_checkpoint_gives_the_same_bytes(original, file, tmp_path):
    again = tmp_path / "again.safetensors"
    for _ in range(3):
        portable.write(again, original.record, original.state, {}, original.epoch, {"licence": "CC BY 4.0", "a": "b"})
        first = again.read_bytes()
        portable.write(again, original.record, original.state, {}, original.epoch, {"a": "b", "licence": "CC BY 4.0"})
        assert again.read_bytes() == first
    assert set(load_file(again)) == set(load_file(file))


def test_no_place_of_the_machine_is_in_it(tiny_record, write_checkpoint, tmp_path):
    record = tiny_record()
    config = record["config"]
    config["data"] |= {"root": "/home/someone/knees", "table": "C:\\knees\\table.csv", "cache_dir": "~/cache/"}
    config |= {"out": "/home/someone/out", "tracking": {"uri": "http://mlflow.example"}, "hydra": {"x": "/y"}}
    record["tracking"] = {"uri": "http://mlflow.example", "run_id": "ab" * 16}
    checkpoint = read(write_checkpoint(tmp_path / "best.ckpt", **record))
    path = tmp_path / "a" / "grader.safetensors"
    portable.write(path, checkpoint.record, checkpoint.state, {}, 0)
    content = path.read_bytes()
    for secret in (b"someone", b"mlflow.example", b"abababab", b"knees\\\\table", b"cache/", str(tmp_path).encode()):
        assert secret not in content
    again = read(path).record
    assert again.config["data"]["root"] is None
    assert again.tracking.run_id is None and again.preprocessing == checkpoint.record.preprocessing


def header_of(path):
    content = path.read_bytes()
    n = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + n]), content[8 + n :]


def with_header(path, change):
    header, tensors = header_of(path)
    change(header["__metadata__"])
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)


def in_record(change):
    def apply(metadata):
        record = json.loads(metadata[RECORD])
        change(record)
        metadata[RECORD] = json.dumps(record)

    return apply


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.pop(RECORD), "holds weights but no record"),
        (lambda m: m.update({RECORD: "["}), "not a checkpoint, or truncated"),
        (lambda m: m.update({RECORD: "[" * 100_000}), "not a checkpoint, or truncated"),
        (lambda m: m.update({RECORD: "[]"}), "another program"),
        (lambda m: m.update(epoch="-1"), "epoch"),
        (lambda m: m.update(epoch="1e9"), "epoch"),
        (lambda m: m.update(epoch="9" * 400), "epoch"),
        (in_record(lambda r: r.update(format=99)), "format 99"),
        (in_record(lambda r: r["net"].update(link="eval")), "net.link"),
        (in_record(lambda r: r["config"].update(loss={"_target_": "pathlib.Path.touch"})), "names code"),
        (in_record(lambda r: r.update(grade_names=["a"])), "grade_names"),
        (in_record(lambda r: r["net"].update(mean=float("nan"))), "mean"),
    ],
)
def test_a_changed_header_is_one_line(file, change, words):
    with_header(file, change)
    with pytest.raises(InputError, match=r"^ckpt=") as caught:
        read(file)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).count("ckpt=") == 1


@pytest.mark.parametrize("content", [b"", b"1234", b"\xff" * 64, struct.pack("<Q", 2**62) + b"{}", b"\0" * 100])
def test_a_damaged_file_is_one_line(file, content):
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"ckpt=.*grader.safetensors: not a"):
        read(file)


def test_a_file_that_is_cut_off(file):
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(InputError, match="truncated"):
        read(file)


def test_weights_of_integers_do_not_fit(file, tmp_path):
    with_header(file, lambda m: None)
    tensors, (header, _) = load_file(file), header_of(file)
    name = next(name for name, value in tensors.items() if value.dtype == torch.float16)
    save_file({**tensors, name: tensors[name].to(torch.int8)}, file, header["__metadata__"])
    with pytest.raises(InputError, match="of type int8"):
        read(file)


def test_it_is_not_calibrated_again(file, tmp_path):
    with pytest.raises(InputError, match="whose calibration stays as it is; give the checkpoint"):
        calibrate(compose("calibrate", [f"ckpt={file}", f"out={tmp_path / 'out'}"]))
